// NAME=URL, and what the agent is told.
#include "config/gateway.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/load.h"

namespace remora::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;

TEST(GatewayTest, TakesNamesAddressesPortsAndPaths) {
  const auto plain = parse_gateway("OPENAI_BASE_URL=https://api.openai.com/v1");
  ASSERT_TRUE(plain.has_value()) << plain.error().message;
  EXPECT_EQ(plain->variable, "OPENAI_BASE_URL");
  EXPECT_TRUE(plain->tls);
  EXPECT_EQ(plain->host, "api.openai.com");
  EXPECT_EQ(plain->port, 443);
  EXPECT_EQ(plain->path, "/v1");
  EXPECT_EQ(plain->authority(), "api.openai.com");
  const auto local = parse_gateway("a1=http://ollama.models.svc:11434");
  ASSERT_TRUE(local.has_value()) << local.error().message;
  EXPECT_FALSE(local->tls);
  EXPECT_EQ(local->authority(), "ollama.models.svc:11434");
  EXPECT_EQ(local->path, "");
  const auto address = parse_gateway("A=https://[::1]:8443/x");
  ASSERT_TRUE(address.has_value()) << address.error().message;
  EXPECT_EQ(address->host, "::1");
  EXPECT_EQ(address->authority(), "[::1]:8443");
  EXPECT_EQ(parse_gateway("A=https://[::1]")->authority(), "[::1]");
}

TEST(GatewayTest, RefusesWhatIsNotOneAndShowsNoSecret) {
  for (const char* text : {"",
                           "A",
                           "=https://h",
                           "1A=https://h",
                           "A B=https://h",
                           "A=",
                           "A=h",
                           "A=ftp://h",
                           "A=https://",
                           "A=https://:443",
                           "A=https://h:",
                           "A=https://h:0",
                           "A=https://h:65536",
                           "A=https://h:1x",
                           "A=https://[::1",
                           "A=https://[]",
                           "A=https://[h]",
                           "A=https://[::1]x",
                           "A=https://-h",
                           "A=https://h/a b",
                           "A=https://h/?key=hush",
                           "A=https://h#x",
                           "A=https://u:hush@h",
                           "A=https://h\r\nX: y",
                           "A=https://h/\"",
                           "A=https://h\xff"}) {
    const auto parsed = parse_gateway(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_THAT(parsed.error().message, Not(HasSubstr("hush")));
    EXPECT_FALSE(parsed.error().mend.empty());
  }
}

TEST(GatewayTest, EachHasAPortInOrder) {
  const LoadResult loaded = load_yaml(
      "outbound: {gatewayPort: 16000, gateways: ['A=https://a/v1', 'B=https://b:8443/x/y']}", "f");
  ASSERT_TRUE(loaded.ok()) << format_problem(loaded.problems.front());
  EXPECT_THAT(
      gateway_environment(loaded.config.outbound()),
      ElementsAre(Pair("A", "http://127.0.0.1:16000/v1"), Pair("B", "http://127.0.0.1:16001/x/y")));
}

TEST(GatewayTest, TwoOfOneNameOrOnAnothersPortAreProblems) {
  EXPECT_THAT(
      format_problem(
          load_yaml("outbound: {gateways: ['A=https://a', 'A=https://b']}", "f").problems.at(0)),
      HasSubstr("outbound.gateways[1]: A is there already"));
  EXPECT_THAT(format_problem(load_yaml("outbound: {proxyPort: 15101, gateways: ['A=https://a', "
                                       "'B=https://b']}",
                                       "f")
                                 .problems.at(0)),
              HasSubstr("the port 15101 is also that of"));
}

}  // namespace
}  // namespace remora::config
