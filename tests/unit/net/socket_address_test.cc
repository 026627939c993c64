#include "sidecar/net/socket_address.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/un.h>

#include "sidecar/base/handle.h"

namespace remora {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

struct Good {
  std::string text;
  std::string shown;
  int family;
  uint16_t port;
  bool loopback;
};

TEST(SocketAddressTest, ReadsEveryForm) {
  const std::vector<Good> table = {
      {"127.0.0.1:80", "127.0.0.1:80", AF_INET, 80, true},
      {"127.255.255.254:1", "127.255.255.254:1", AF_INET, 1, true},
      {"localhost:8080", "127.0.0.1:8080", AF_INET, 8080, true},
      {"0.0.0.0:0", "0.0.0.0:0", AF_INET, 0, false},
      {":65535", "0.0.0.0:65535", AF_INET, 65535, false},
      {"10.1.2.3:443", "10.1.2.3:443", AF_INET, 443, false},
      {"[::1]:80", "[::1]:80", AF_INET6, 80, true},
      {"[::]:80", "[::]:80", AF_INET6, 80, false},
      {"[2001:DB8::0:1]:9", "[2001:db8::1]:9", AF_INET6, 9, false},
  };
  for (const Good& good : table) {
    const Result<SocketAddress> address = parse_socket_address(good.text);
    ASSERT_TRUE(address.has_value()) << good.text << ": " << address.error().message;
    EXPECT_EQ(address->to_string(), good.shown);
    EXPECT_EQ(address->family(), good.family) << good.text;
    EXPECT_EQ(address->port(), good.port) << good.text;
    EXPECT_EQ(address->is_loopback(), good.loopback) << good.text;
    // What is shown can be written back.
    EXPECT_EQ(parse_socket_address(address->to_string())->to_string(), good.shown);
  }
}

TEST(SocketAddressTest, SaysWhatIsWrong) {
  const std::vector<std::pair<std::string, std::string>> table = {
      {"", "no port"},
      {"127.0.0.1", "no port"},
      {"127.0.0.1:", "the port must be a number"},
      {"127.0.0.1:http", "the port must be a number"},
      {"127.0.0.1:80x", "the port must be a number"},
      {"127.0.0.1: 80", "the port must be a number"},
      {"127.0.0.1:+80", "the port must be a number"},
      {"127.0.0.1:-1", "the port must be a number"},
      {"127.0.0.1:65536", "the port must be a number"},
      {"127.0.0.1:99999999999999999999", "the port must be a number"},
      {"[::1]", "the port must be a number"},
      {"::1:80", "in brackets"},
      {"2001:db8::1:80", "in brackets"},
      {"[::1:80", "in brackets"},
      {"[]:80", "not an IP address"},
      {"[:80", "not an IP address"},
      {"127.0.0.256:80", "not an IP address"},
      {"127.0.1:80", "not an IP address"},
      {"example.com:80", "not an IP address"},
      {" 127.0.0.1:80", "not an IP address"},
      {std::string("127.0.0.1\0x:80", 14), "not an IP address"},
  };
  for (const auto& [text, why] : table) {
    const Result<SocketAddress> address = parse_socket_address(text);
    ASSERT_FALSE(address.has_value()) << text;
    EXPECT_EQ(address.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(address.error().message, HasSubstr(why)) << text;
    EXPECT_THAT(address.error().message, StartsWith("address \""));
  }
}

TEST(SocketAddressTest, TakesHostAndPortApart) {
  EXPECT_EQ(make_socket_address("::1", 80)->to_string(), "[::1]:80");
  EXPECT_EQ(make_socket_address("localhost", 80)->to_string(), "127.0.0.1:80");
  EXPECT_EQ(make_socket_address("", 80).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(make_socket_address("[::1]", 80).error().code, ErrorCode::kInvalidArgument);
}

TEST(SocketAddressTest, UnixPathsAreBounded) {
  const std::string longest(107, 'p');
  const Result<SocketAddress> address = unix_socket_address(longest);
  ASSERT_TRUE(address.has_value());
  EXPECT_EQ(address->to_string(), "unix:" + longest);
  EXPECT_EQ(address->family(), AF_UNIX);
  EXPECT_EQ(address->port(), 0);
  EXPECT_TRUE(address->is_loopback());
  for (const std::string& bad : {std::string(), std::string(108, 'p'), std::string("a\0b", 3)}) {
    const Result<SocketAddress> refused = unix_socket_address(bad);
    ASSERT_FALSE(refused.has_value()) << bad;
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(SocketAddressTest, TheNamelessUnixPeerAndNothingAtAllCanBeShown) {
  sockaddr_un nameless{};
  nameless.sun_family = AF_UNIX;
  const SocketAddress peer(reinterpret_cast<const sockaddr*>(&nameless), sizeof(sa_family_t));
  EXPECT_EQ(peer.to_string(), "unix:");
  const SocketAddress nothing;
  EXPECT_EQ(nothing.port(), 0);
  EXPECT_EQ(nothing.length(), 0u);
}

TEST(SocketAddressTest, LocalAddressHasTheRealPort) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  const auto any = parse_socket_address("127.0.0.1:0");
  ASSERT_EQ(::bind(fd.get(), any->get(), any->length()), 0);
  const Result<SocketAddress> bound = local_address(fd.get());
  ASSERT_TRUE(bound.has_value());
  EXPECT_GT(bound->port(), 0);
  EXPECT_FALSE(local_address(-1).has_value());
}

}  // namespace
}  // namespace remora
