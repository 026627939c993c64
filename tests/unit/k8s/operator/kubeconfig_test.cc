// Kubeconfig files: what can be used, and what is said of what can't.
#include "k8s/operator/kubeconfig.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace remora::k8s {
namespace {

using testing::HasSubstr;

std::string config(const std::string& cluster, const std::string& user) {
  return "current-context: c\n"
         "contexts: [{name: c, context: {cluster: k, user: u}}]\n"
         "clusters: [{name: k, cluster: {" +
         cluster +
         "}}]\n"
         "users: [{name: u, user: {" +
         user + "}}]\n";
}

constexpr const char* good_cluster =
    "server: 'https://10.0.0.1:6443', certificate-authority-data: Q0E=";

TEST(KubeconfigTest, CertificatesMayStandInIt) {
  const auto server = parse_kubeconfig(
      config(good_cluster, "client-certificate-data: Q0VSVA==, client-key-data: S0VZ"), "/d");
  ASSERT_TRUE(server.has_value()) << server.error().message;
  EXPECT_EQ(server->address.to_string(), "10.0.0.1:6443");
  EXPECT_EQ(server->name, "10.0.0.1");
  EXPECT_TRUE(server->tls);
  EXPECT_EQ(server->trusted_pem, "CA");
  EXPECT_EQ(server->certificate_pem, "CERT");
  EXPECT_EQ(server->private_key_pem, "KEY");
}

TEST(KubeconfigTest, TokensAndNamesAreTaken) {
  const auto server = parse_kubeconfig(
      config("server: 'https://[::1]:6443/', certificate-authority-data: Q0E=", "token: t"), "/d");
  ASSERT_TRUE(server.has_value()) << server.error().message;
  EXPECT_EQ(server->name, "::1");
  EXPECT_EQ(server->token, "t");
  const auto named = parse_kubeconfig(
      config(std::string(good_cluster) + ", tls-server-name: kubernetes", "tokenFile: token"),
      "/d");
  EXPECT_EQ(named->name, "kubernetes");
  EXPECT_EQ(named->token_file, "/d/token");
}

TEST(KubeconfigTest, WhatCannotBeUsedSaysWhatToWrite) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "no context"},
      {"[", "kubeconfig: "},
      {config("server: 'http://10.0.0.1:80'", ""), "https://"},
      {config("server: 'https://kubernetes:6443'", ""), "tls-server-name"},
      {config("server: 'https://10.0.0.1'", ""), "certificate-authority"},
      {config(good_cluster, "exec: {command: x}"), "exec"},
      {config(good_cluster, "username: a, password: b"), "password"},
      {config(good_cluster, "client-certificate-data: Q0VSVA=="), "belong together"},
      {config(good_cluster, "client-key-data: '*'"), "no base64"},
      {config(good_cluster, "client-key: missing"), "missing"}};
  for (const auto& [text, part] : cases) {
    const auto server = parse_kubeconfig(text, "/nowhere");
    ASSERT_FALSE(server.has_value()) << text;
    EXPECT_THAT(server.error().message, HasSubstr(part)) << text;
  }
}

}  // namespace
}  // namespace remora::k8s
