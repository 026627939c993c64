// Kubeconfig files: what can be used, and what is said of what can't.
#include "k8s/kubeconfig/kubeconfig.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace remora::k8s {
namespace {

using testing::HasSubstr;

std::string file_of(const std::string& cluster, const std::string& user) {
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
  const auto config = parse_kubeconfig(
      file_of(good_cluster, "client-certificate-data: Q0VSVA==, client-key-data: S0VZ"), "/d");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->server.address.to_string(), "10.0.0.1:6443");
  EXPECT_EQ(config->server.name, "10.0.0.1");
  EXPECT_TRUE(config->server.tls);
  EXPECT_EQ(config->server.trusted_pem, "CA");
  EXPECT_EQ(config->server.certificate_pem, "CERT");
  EXPECT_EQ(config->server.private_key_pem, "KEY");
}

TEST(KubeconfigTest, TokensAndNamesAreTaken) {
  const auto config = parse_kubeconfig(
      file_of("server: 'https://[::1]:6443/', certificate-authority-data: Q0E=", "token: t"), "/d");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->server.name, "::1");
  EXPECT_EQ(config->server.token, "t");
  const auto named = parse_kubeconfig(
      file_of(std::string(good_cluster) + ", tls-server-name: kubernetes", "tokenFile: token"),
      "/d");
  EXPECT_EQ(named->server.name, "kubernetes");
  EXPECT_EQ(named->server.token_file, "/d/token");
}

TEST(KubeconfigTest, WhatCannotBeUsedSaysWhatToWrite) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "no context"},
      {"[", "kubeconfig: "},
      {file_of("server: 'ftp://10.0.0.1:80'", ""), "https://"},
      {file_of("server: 'https://h/k8s/clusters/1'", ""), "nothing after it"},
      {file_of("server: 'https://a b:6443'", ""), "no HOST:PORT"},
      {file_of("server: 'https://h:0'", ""), "no HOST:PORT"},
      {file_of(std::string(good_cluster) + ", insecure-skip-tls-verify: true", ""),
       "insecure-skip-tls-verify"},
      {file_of(std::string(good_cluster) + ", proxy-url: 'http://p'", ""), "proxy-url"},
      {file_of("server: 'https://10.0.0.1'", ""), "certificate-authority"},
      {file_of(good_cluster, "exec: {command: x}"), "apiVersion"},
      {file_of(good_cluster, "exec: {apiVersion: v1}"), "command"},
      {file_of(good_cluster, "as: somebody"), "as is not supported"},
      {file_of(good_cluster, "username: a, password: b"), "password"},
      {file_of(good_cluster, "client-certificate-data: Q0VSVA=="), "belong together"},
      {file_of(good_cluster, "client-key-data: '*'"), "no base64"},
      {file_of(good_cluster, "client-key: missing"), "missing"}};
  for (const auto& [text, part] : cases) {
    const auto config = parse_kubeconfig(text, "/nowhere");
    ASSERT_FALSE(config.has_value()) << text;
    EXPECT_THAT(config.error().message, HasSubstr(part)) << text;
  }
}

TEST(KubeconfigTest, ServersMayHaveNames) {
  const auto config = parse_kubeconfig(
      file_of("server: 'https://k.example:6443', certificate-authority-data: Q0E=", "token: t"),
      "/d");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->host, "k.example");
  EXPECT_EQ(config->port, 6443);
  EXPECT_EQ(config->server.name, "k.example");
  const auto usual = parse_kubeconfig(
      file_of("server: 'https://k.example', certificate-authority-data: Q0E=", "token: t"), "/d");
  ASSERT_TRUE(usual.has_value()) << usual.error().message;
  EXPECT_EQ(usual->port, 443);
  const auto plain = parse_kubeconfig(file_of("server: 'http://127.0.0.1:8001'", ""), "/d");
  ASSERT_TRUE(plain.has_value()) << plain.error().message;
  EXPECT_FALSE(plain->server.tls);
}

TEST(KubeconfigTest, ContextsAreChosenAndGiveANamespace) {
  const std::string text =
      "current-context: a\n"
      "contexts: [{name: a, context: {cluster: k, user: u}},\n"
      "           {name: b, context: {cluster: k, user: u, namespace: shop}}]\n"
      "clusters: [{name: k, cluster: {" +
      std::string(good_cluster) + "}}]\nusers: [{name: u, user: {token: t}}]\n";
  EXPECT_EQ(parse_kubeconfig(text, "/d")->namespace_name, "");
  EXPECT_EQ(parse_kubeconfig(text, "/d", "b")->namespace_name, "shop");
  EXPECT_THAT(parse_kubeconfig(text, "/d", "c").error().message, HasSubstr("no context \"c\""));
}

TEST(KubeconfigTest, ExecPluginsAreRead) {
  const auto config = parse_kubeconfig(
      file_of(good_cluster,
              "exec: {apiVersion: client.authentication.k8s.io/v1, command: tool, "
              "args: [get, token], env: [{name: A, value: b}], installHint: get it}"),
      "/d");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  ASSERT_TRUE(config->exec.has_value());
  EXPECT_EQ(config->exec->command, "tool");
  EXPECT_THAT(config->exec->arguments, testing::ElementsAre("get", "token"));
  EXPECT_THAT(config->exec->environment, testing::ElementsAre(testing::Pair("A", "b")));
  EXPECT_EQ(config->exec->install_hint, "get it");
}

}  // namespace
}  // namespace remora::k8s
