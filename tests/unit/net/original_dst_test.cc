// What is not redirected. Redirected connections need rules: tests/netns has them.
#include "sidecar/net/original_dst.h"

#include <array>

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <unistd.h>

#include "sidecar/base/handle.h"

namespace remora {
namespace {

struct Connection {
  UniqueFd client;
  UniqueFd accepted;
};

// From a listener on listen_at to the address call_at with the listener's port.
Connection connection(const char* listen_at, const char* call_at) {
  Connection made;
  const auto address = make_socket_address(listen_at, 0);
  const UniqueFd listener(::socket(address->family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::bind(listener.get(), address->get(), address->length()), 0);
  EXPECT_EQ(::listen(listener.get(), 1), 0);
  const auto to = make_socket_address(call_at, local_address(listener.get())->port());
  made.client.reset(::socket(to->family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::connect(made.client.get(), to->get(), to->length()), 0);
  made.accepted.reset(::accept(listener.get(), nullptr, nullptr));
  return made;
}

void expect_not_redirected(int fd) {
  const auto original = original_destination(fd);
  ASSERT_TRUE(original) << original.error().message;
  EXPECT_FALSE(*original) << (*original)->to_string();
}

TEST(OriginalDestinationTest, ADirectConnectionHasNone) {
  expect_not_redirected(connection("127.0.0.1", "127.0.0.1").accepted.get());
  expect_not_redirected(connection("::1", "::1").accepted.get());
}

TEST(OriginalDestinationTest, NorHasIpv4OnAnIpv6Socket) {
  expect_not_redirected(connection("::", "127.0.0.1").accepted.get());
}

TEST(OriginalDestinationTest, NorHasAUnixSocket) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
  const UniqueFd near(ends[0]);
  const UniqueFd far(ends[1]);
  expect_not_redirected(near.get());
}

TEST(OriginalDestinationTest, WhatIsNoSocketIsAnError) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const UniqueFd near(ends[0]);
  const UniqueFd far(ends[1]);
  EXPECT_FALSE(original_destination(near.get()));
  EXPECT_FALSE(original_destination(-1));
}

}  // namespace
}  // namespace remora
