#include "sidecar/proxy/proxy_request.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace remora {
namespace {

using testing::HasSubstr;

ProxyRequest parsed(const std::string& head) {
  EXPECT_EQ(proxy_head_bytes(head), head.size());
  const auto request = parse_proxy_request(head);
  EXPECT_TRUE(request.has_value()) << head;
  return request.value_or(ProxyRequest{});
}
std::string refused(const std::string& head) {
  const auto request = parse_proxy_request(head);
  EXPECT_FALSE(request.has_value()) << head;
  return request ? "" : request.error().message;
}

TEST(ProxyRequestTest, TheHeadEndsWithItsEmptyLine) {
  EXPECT_EQ(proxy_head_bytes(""), 0u);
  EXPECT_EQ(proxy_head_bytes("GET http://a/ HTTP/1.1\r\n\r"), 0u);
  EXPECT_EQ(proxy_head_bytes("CONNECT a:1 HTTP/1.1\r\n\r\nrest"), 24u);
}

TEST(ProxyRequestTest, ConnectNamesHostAndPort) {
  const ProxyRequest request = parsed("CONNECT api.example:443 HTTP/1.1\r\nHost: other\r\n\r\n");
  EXPECT_TRUE(request.is_connect);
  EXPECT_EQ(request.host, "api.example");
  EXPECT_EQ(request.port, 443);
  EXPECT_TRUE(request.head.empty());
  EXPECT_EQ(parsed("CONNECT [::1]:80 HTTP/1.1\r\n\r\n").host, "::1");
}

TEST(ProxyRequestTest, AUrlBecomesOriginFormOnAConnectionOfItsOwn) {
  const ProxyRequest request = parsed(
      "POST http://api.example:8080/v1?q=1 HTTP/1.1\r\nHost: elsewhere\r\nContent-Length: 2\r\n"
      "Accept:  */* \r\n\r\n");
  EXPECT_EQ(request.host, "api.example");
  EXPECT_EQ(request.port, 8080);
  // The target wins over Host (RFC 9112 section 3.2.2).
  EXPECT_EQ(request.head,
            "POST /v1?q=1 HTTP/1.1\r\nHost: api.example:8080\r\nContent-Length: 2\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n");
}

TEST(ProxyRequestTest, PathsThatAreLeftOut) {
  EXPECT_THAT(parsed("GET http://a HTTP/1.1\r\n\r\n").head, HasSubstr("GET / HTTP/1.1"));
  EXPECT_THAT(parsed("GET HTTP://a?x HTTP/1.0\r\n\r\n").head, HasSubstr("GET /?x HTTP/1.0"));
  EXPECT_THAT(parsed("OPTIONS http://a HTTP/1.1\r\n\r\n").head, HasSubstr("OPTIONS * HTTP/1.1"));
}

TEST(ProxyRequestTest, TheHopsOwnFieldsStayHere) {
  const std::string head =
      parsed(
          "GET http://a/ HTTP/1.1\r\nProxy-Authorization: Basic c2VjcmV0\r\nConnection: X-Hop, "
          "close\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nX-End: 2\r\n\r\n")
          .head;
  EXPECT_EQ(head, "GET / HTTP/1.1\r\nHost: a\r\nX-End: 2\r\nConnection: close\r\n\r\n");
}

TEST(ProxyRequestTest, WhatIsNoRequestToAProxySaysWhy) {
  EXPECT_THAT(refused("GET / HTTP/1.1\r\n\r\n"), HasSubstr("this is a proxy"));
  EXPECT_THAT(refused("GET https://a/ HTTP/1.1\r\n\r\n"), HasSubstr("CONNECT"));
  for (const char* target :
       {"a", "a:", "a:0", "a:65536", "a:1x", ":1", "a@b:1", "[::1:1", "::1:1"}) {
    EXPECT_THAT(refused(std::string("CONNECT ") + target + " HTTP/1.1\r\n\r\n"),
                HasSubstr("HOST:PORT"))
        << target;
  }
  EXPECT_THAT(refused("GET http://a/ HTTP/2\r\n\r\n"), HasSubstr("request line"));
  EXPECT_THAT(refused("GET\r\n\r\n"), HasSubstr("request line"));
  EXPECT_THAT(refused("GET http://a/ HTTP/1.1\r\nno colon\r\n\r\n"), HasSubstr("no name"));
  EXPECT_THAT(refused("GET http://a/ HTTP/1.1\r\nX: 1\r\n folded\r\n\r\n"), HasSubstr("no name"));
  EXPECT_THAT(refused("GET http://a/ HTTP/1.1\r\nX: a\rb\r\n\r\n"), HasSubstr("control character"));
}

}  // namespace
}  // namespace remora
