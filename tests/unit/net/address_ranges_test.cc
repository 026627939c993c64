#include "sidecar/net/address_ranges.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace remora {
namespace {

using testing::HasSubstr;

TEST(PortRangeTest, TakesOnePortOrTwo) {
  EXPECT_EQ(parse_port_range("80"), (PortRange{80, 80}));
  EXPECT_EQ(parse_port_range("1-65535"), (PortRange{1, 65535}));
  EXPECT_EQ(parse_port_range("80")->to_string(), "80");
  EXPECT_EQ(parse_port_range("8000-8080")->to_string(), "8000-8080");
}

TEST(PortRangeTest, RefusesAnythingElse) {
  for (const char* text : {"", "0", "65536", "-1", "80-", "-80", "80-79", "80-0", " 80", "80 ",
                           "+80", "0x50", "80-81-82", "http", "8080-65536"}) {
    const auto parsed = parse_port_range(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code, ErrorCode::kInvalidArgument) << text;
  }
}

TEST(CidrTest, TakesAddressesAndNetworksAndShowsThemAgain) {
  for (const char* text : {"10.0.0.0/8", "10.1.2.3", "0.0.0.0/0", "192.0.2.128/25", "fd00::/8",
                           "2001:db8::1", "::/0", "fe80::/10", "2001:db8::/127"}) {
    const auto parsed = parse_cidr(text);
    ASSERT_TRUE(parsed) << text << ": " << parsed.error().message;
    EXPECT_EQ(parsed->to_string(), text);
  }
  EXPECT_EQ(*parse_cidr("10.1.2.3/32"), *parse_cidr("10.1.2.3"));
  EXPECT_EQ(*parse_cidr("::1/128"), *parse_cidr("::1"));
}

TEST(CidrTest, NamesTheNetworkThatWasMeant) {
  const auto expect_meant = [](const char* text, const char* meant) {
    const auto parsed = parse_cidr(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_THAT(parsed.error().message, HasSubstr("write " + std::string(meant) + " for"));
  };
  expect_meant("10.1.2.3/8", "10.0.0.0/8");
  expect_meant("192.0.2.129/25", "192.0.2.128/25");
  expect_meant("192.0.2.255/30", "192.0.2.252/30");
  expect_meant("1.0.0.0/0", "0.0.0.0/0");
  expect_meant("2001:db8::1/32", "2001:db8::/32");
  expect_meant("ffff::/1", "8000::/1");
}

TEST(CidrTest, RefusesAnythingElse) {
  for (const char* text : {"", "/", "/8", "10.0.0/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1",
                           "10.0.0.0/8/8", "::/129", "localhost", "10.0.0.0 /8", "1.2.3.4.5",
                           "fe80::1%eth0", "::ffff:10.0.0.1", "::ffff:0:0/96", "10.0.0.0/08x"}) {
    const auto parsed = parse_cidr(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code, ErrorCode::kInvalidArgument) << text;
  }
  EXPECT_FALSE(parse_cidr(std::string_view("10.0.0.1\0", 9)));
  EXPECT_LT(parse_cidr(std::string(100'000, '1')).error().message.size(), 300u);
}

}  // namespace
}  // namespace remora
