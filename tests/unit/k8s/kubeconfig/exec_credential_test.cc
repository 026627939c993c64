// Credentials from a program: what it prints, and how it can fail.
#include "k8s/kubeconfig/exec_credential.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace remora::k8s {
namespace {

using testing::HasSubstr;
using testing::Not;

ExecPlugin shell(const std::string& script) {
  return {.command = "sh",
          .arguments = {"-c", script},
          .environment = {{"EXTRA", "extra"}},
          .api_version = "client.authentication.k8s.io/v1",
          .install_hint = "install it"};
}

TEST(ExecCredentialTest, TokenIsTakenFromWhatTheProgramPrints) {
  ApiServer server;
  server.token_file = "/old";
  const auto added = add_exec_credential(
      shell("printf '{\"kind\":\"ExecCredential\",\"status\":{\"token\":\"%s\"}}' \"$EXTRA\""),
      server);
  ASSERT_TRUE(added.has_value()) << added.error().message;
  EXPECT_EQ(server.token, "extra");
  EXPECT_EQ(server.token_file, "");
}

TEST(ExecCredentialTest, ProgramIsToldWhatIsAskedOfIt) {
  ApiServer server;
  const auto added = add_exec_credential(
      shell("case \"$KUBERNETES_EXEC_INFO\" in *client.authentication.k8s.io/v1*) ;; *) exit 9;; "
            "esac; test -n \"$PATH\" || exit 8; "
            "printf '{\"kind\":\"ExecCredential\",\"status\":{\"clientCertificateData\":\"C\","
            "\"clientKeyData\":\"K\"}}'"),
      server);
  ASSERT_TRUE(added.has_value()) << added.error().message;
  EXPECT_EQ(server.certificate_pem, "C");
  EXPECT_EQ(server.private_key_pem, "K");
}

TEST(ExecCredentialTest, FailuresSayWhatToDo) {
  ApiServer server;
  EXPECT_THAT(add_exec_credential(shell("exit 3"), server).error().message,
              testing::AllOf(HasSubstr("exit code 3"), HasSubstr("install it")));
  EXPECT_THAT(add_exec_credential(shell("kill -9 $$"), server).error().message,
              HasSubstr("was killed"));
  ExecPlugin missing = shell("");
  missing.command = "no-such-program-here";
  const auto started = add_exec_credential(missing, server);
  EXPECT_EQ(started.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(started.error().message, HasSubstr("no-such-program-here"));
}

TEST(ExecCredentialTest, WhatIsNoCredentialIsRefusedAndNotRepeated) {
  for (const char* text :
       {"secret", "{}", "[]", R"({"kind":"ExecCredential"})",
        R"({"kind":"ExecCredential","status":{}})",
        R"({"kind":"ExecCredential","status":{"token":7}})",
        R"({"kind":"ExecCredential","status":{"clientCertificateData":"secret"}})"}) {
    ApiServer server;
    const auto read = read_exec_credential(text, server);
    ASSERT_FALSE(read.has_value()) << text;
    EXPECT_THAT(read.error().message, Not(HasSubstr("secret"))) << text;
  }
}

}  // namespace
}  // namespace remora::k8s
