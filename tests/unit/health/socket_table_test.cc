// The kernel's listing of sockets: messages as it sends them, and as it never should.
#include "sidecar/health/socket_table.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "sidecar/base/handle.h"

namespace remora {
namespace {

template <typename T>
void append(std::vector<uint8_t>& bytes, const T& value) {
  const auto* begin = reinterpret_cast<const uint8_t*>(&value);
  bytes.insert(bytes.end(), begin, begin + sizeof value);
}

template <typename Body>
std::vector<uint8_t> message(uint16_t type, const Body& body) {
  std::vector<uint8_t> bytes;
  nlmsghdr head{};
  head.nlmsg_len = sizeof head + sizeof body;
  head.nlmsg_type = type;
  append(bytes, head);
  append(bytes, body);
  return bytes;
}

inet_diag_msg socket_message(uint32_t inode) {
  inet_diag_msg body{};
  body.idiag_family = AF_INET;
  body.idiag_state = tcp_established;
  body.idiag_inode = inode;
  body.id.idiag_sport = htons(40'000);
  body.id.idiag_dport = htons(443);
  body.id.idiag_dst[0] = htonl(0x0a000007);
  return body;
}

TEST(SocketTable, ASocketWithoutDetailsIsKnownByItsEnds) {
  std::vector<TcpSocket> sockets;
  const auto done = add_tcp_sockets(message(SOCK_DIAG_BY_FAMILY, socket_message(77)), sockets);
  ASSERT_TRUE(done.has_value());
  EXPECT_FALSE(*done);
  ASSERT_EQ(sockets.size(), 1u);
  EXPECT_EQ(sockets[0].inode, 77u);
  EXPECT_EQ(sockets[0].local_port, 40'000);
  EXPECT_EQ(sockets[0].peer.to_string(), "10.0.0.7:443");
  EXPECT_EQ(sockets[0].facts.state, tcp_established);
}

TEST(SocketTable, TheEndIsTheEnd) {
  std::vector<uint8_t> bytes = message(SOCK_DIAG_BY_FAMILY, socket_message(1));
  const std::vector<uint8_t> end = message(NLMSG_DONE, 0);
  bytes.insert(bytes.end(), end.begin(), end.end());
  std::vector<TcpSocket> sockets;
  const auto done = add_tcp_sockets(bytes, sockets);
  ASSERT_TRUE(done.has_value());
  EXPECT_TRUE(*done);
  EXPECT_EQ(sockets.size(), 1u);
}

TEST(SocketTable, TheKernelsErrorIsPassedOn) {
  nlmsgerr body{};
  body.error = -EACCES;
  std::vector<TcpSocket> sockets;
  const auto done = add_tcp_sockets(message(NLMSG_ERROR, body), sockets);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code, ErrorCode::kPermission);
}

TEST(SocketTable, EveryCutIsAnErrorOrANormalEnd) {
  std::vector<uint8_t> bytes = message(SOCK_DIAG_BY_FAMILY, socket_message(1));
  for (size_t length = 0; length < bytes.size(); ++length) {
    std::vector<TcpSocket> sockets;
    EXPECT_FALSE(add_tcp_sockets(std::span(bytes).first(length), sockets).has_value()) << length;
    EXPECT_TRUE(sockets.empty()) << length;
  }
  // Lengths that lie.
  for (const uint32_t length : {0U, 15U, 17U, 1U << 31}) {
    nlmsghdr head{};
    std::memcpy(&head, bytes.data(), sizeof head);
    head.nlmsg_len = length;
    std::memcpy(bytes.data(), &head, sizeof head);
    std::vector<TcpSocket> sockets;
    EXPECT_FALSE(add_tcp_sockets(bytes, sockets).has_value()) << length;
  }
}

TEST(SocketTable, AListingBeyondItsLimitIsAnError) {
  std::vector<TcpSocket> sockets(sockets_listed_max);
  const auto done = add_tcp_sockets(message(SOCK_DIAG_BY_FAMILY, socket_message(1)), sockets);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code, ErrorCode::kLimitExceeded);
}

TEST(SocketTable, TheKernelListsAListener) {
  const UniqueFd fd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = IN6ADDR_LOOPBACK_INIT;
  socklen_t length = sizeof address;
  ASSERT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  ASSERT_EQ(::listen(fd.get(), 4), 0);
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length);
  const auto sockets = list_tcp_sockets();
  ASSERT_TRUE(sockets.has_value()) << sockets.error().message;
  EXPECT_TRUE(std::ranges::any_of(*sockets, [&](const TcpSocket& socket) {
    return socket.facts.state == tcp_listen && socket.local_port == ntohs(address.sin6_port);
  }));
}

}  // namespace
}  // namespace remora
