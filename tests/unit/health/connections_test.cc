// What ProcessReader makes of real connections, over loopback.
#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "sidecar/base/handle.h"
#include "sidecar/health/process.h"
#include "tests/unit/health/child_process.h"

namespace remora {
namespace {

using ::testing::IsEmpty;

sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

UniqueFd connect_to(uint16_t port, int flags = 0) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  const sockaddr_in address = loopback(port);
  const int result =
      ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  return result == 0 || errno == EINPROGRESS ? std::move(fd) : UniqueFd();
}

struct Listener {
  explicit Listener(int backlog = 16)
      : fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_in address = loopback(0);
    socklen_t length = sizeof address;
    ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length);
    ::listen(fd.get(), backlog);
    ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length);
    port = ntohs(address.sin_port);
  }
  UniqueFd accept() const {
    UniqueFd peer;
    EXPECT_TRUE(eventually([&] {
      peer.reset(::accept4(fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
      return static_cast<bool>(peer);
    }));
    return peer;
  }
  std::string name() const { return "127.0.0.1:" + std::to_string(port); }
  UniqueFd fd;
  uint16_t port = 0;
};

// The connections that explain why this process waits.
std::vector<OutboundCall> calls_of(ProcessReader& reader, pid_t pid) {
  ProgressSample sample;
  reader.read(pid, true, sample);
  EXPECT_TRUE(sample.process_seen);
  EXPECT_THAT(sample.degraded, IsEmpty());
  return sample.outbound;
}

void receive_byte(int fd) {
  char byte = 0;
  if (::recv(fd, &byte, 1, MSG_WAITALL) != 1) ::_exit(1);
}
void send_byte(int fd) { EXPECT_EQ(::send(fd, "x", 1, MSG_NOSIGNAL), 1); }

// Both ways of looking: by copies of the agent's descriptors, and by the kernel's listing.
class Outbound : public testing::TestWithParam<bool> {
 protected:
  ProcessReader reader_{"/proc", "/sys/fs/cgroup", /*copies_allowed=*/GetParam()};
  Listener listener_;
};
INSTANTIATE_TEST_SUITE_P(ByCopy, Outbound, testing::Values(true));
INSTANTIATE_TEST_SUITE_P(ByListing, Outbound, testing::Values(false));

// The request leaves within the same kernel tick that the connection opens in, nearly always.
TEST_P(Outbound, AwaitsTheFirstAnswer) {
  for (int round = 0; round < 10; ++round) {
    const ChildProcess child([&] {
      const UniqueFd fd = connect_to(listener_.port);
      ::send(fd.get(), "x", 1, 0);
      receive_byte(fd.get());
      for (;;) ::pause();
    });
    const UniqueFd peer = listener_.accept();
    receive_byte(peer.get());
    const auto calls = calls_of(reader_, child.pid());
    ASSERT_EQ(calls.size(), 1u) << "round " << round;
    EXPECT_EQ(calls[0].peer, listener_.name());
    EXPECT_EQ(calls[0].state, OutboundCall::State::kAwaiting);
    EXPECT_LT(calls[0].pending_for, std::chrono::seconds(10));
    send_byte(peer.get());
    EXPECT_TRUE(eventually([&] {
      const auto after = calls_of(reader_, child.pid());
      return std::ranges::none_of(after, [](const OutboundCall& call) {
        return call.state == OutboundCall::State::kAwaiting;
      });
    })) << "answered";
  }
}

// A kept connection: the next request follows within the same tick as the answer before it.
TEST_P(Outbound, AwaitsTheAnswerToARequestSentRightAfterAnAnswer) {
  for (int round = 0; round < 10; ++round) {
    const ChildProcess child([&] {
      const UniqueFd fd = connect_to(listener_.port);
      ::send(fd.get(), "x", 1, 0);
      receive_byte(fd.get());
      ::send(fd.get(), "y", 1, 0);
      receive_byte(fd.get());
    });
    const UniqueFd peer = listener_.accept();
    receive_byte(peer.get());
    send_byte(peer.get());
    receive_byte(peer.get());
    // Its acknowledgement is what tells: delayed, but not for long.
    ASSERT_TRUE(eventually([&] {
      const auto calls = calls_of(reader_, child.pid());
      return calls.size() == 1 && calls[0].state == OutboundCall::State::kAwaiting;
    })) << "round "
        << round;
  }
}

TEST_P(Outbound, AnIdleConnectionExplainsNothing) {
  const ChildProcess child([&] {
    const UniqueFd fd = connect_to(listener_.port);
    for (;;) ::pause();
  });
  const UniqueFd peer = listener_.accept();
  for (int i = 0; i < 20; ++i) ASSERT_THAT(calls_of(reader_, child.pid()), IsEmpty());
}

// A pooled connection keeps itself alive: those acknowledgements are no request.
TEST_P(Outbound, KeepAlivesOfAnAnsweredConnectionExplainNothing) {
  const ChildProcess child([&] {
    const UniqueFd fd = connect_to(listener_.port);
    const int on = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_KEEPIDLE, &on, sizeof on);
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_KEEPINTVL, &on, sizeof on);
    ::send(fd.get(), "x", 1, 0);
    receive_byte(fd.get());
    for (;;) ::pause();
  });
  const UniqueFd peer = listener_.accept();
  receive_byte(peer.get());
  send_byte(peer.get());
  const auto waits = [&] { return !calls_of(reader_, child.pid()).empty(); };
  ASSERT_TRUE(eventually([&] { return !waits(); }));
  // Past the first keep-alive, as the peer's side of the connection sees it.
  ASSERT_TRUE(eventually([&] {
    EXPECT_FALSE(waits());
    tcp_info info{};
    socklen_t length = sizeof info;
    ::getsockopt(peer.get(), IPPROTO_TCP, TCP_INFO, &info, &length);
    return info.tcpi_last_data_sent > 2500;
  }));
}

TEST_P(Outbound, ConnectingIsPendingForNoLongerThanItHasBeen) {
  const Listener full(0);
  std::vector<UniqueFd> held;
  for (int i = 0; i < 4; ++i) held.push_back(connect_to(full.port, SOCK_NONBLOCK));
  const ChildProcess child([&] {
    for (UniqueFd& fd : held) fd.reset();
    const UniqueFd fd = connect_to(full.port, SOCK_NONBLOCK);
    for (;;) ::pause();
  });
  std::vector<OutboundCall> calls;
  ASSERT_TRUE(eventually([&] {
    calls = calls_of(reader_, child.pid());
    return !calls.empty();
  }));
  EXPECT_EQ(calls[0].state, OutboundCall::State::kConnecting);
  EXPECT_LT(calls[0].pending_for, std::chrono::seconds(30));
}

TEST_P(Outbound, CallersOfTheAgentAreNotItsCalls) {
  Listener of_agent;
  const ChildProcess child([&] {
    listener_.fd.reset();
    const UniqueFd caller = of_agent.accept();
    ::send(caller.get(), "x", 1, 0);
    for (;;) ::pause();
  });
  // The agent has answered and awaits more of a caller.
  const UniqueFd caller = connect_to(of_agent.port);
  receive_byte(caller.get());
  for (int i = 0; i < 20; ++i) ASSERT_THAT(calls_of(reader_, child.pid()), IsEmpty());
}

TEST_P(Outbound, CountsConnectionsThatWaitToBeAccepted) {
  Listener of_agent;
  const ChildProcess child([] {
    for (;;) ::pause();
  });
  const std::array callers = {connect_to(of_agent.port), connect_to(of_agent.port)};
  ASSERT_TRUE(callers[0] && callers[1]);
  ProgressSample sample;
  reader_.read(child.pid(), true, sample);
  EXPECT_EQ(sample.accept_backlog, 2u);
  EXPECT_THAT(sample.outbound, IsEmpty());
}

}  // namespace
}  // namespace remora
