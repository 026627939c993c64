// The mark of the sidecar's own connections (own_socket_priority).
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "sidecar/base/handle.h"
#include "sidecar/net/tcp.h"
#include "tests/unit/net/recording_transport_events.h"

namespace remora {
namespace {

constexpr int searched_descriptors = 1024;

// SO_PRIORITY of this process's socket that is connected to address; -1 when there is none.
int priority_of_socket_to(const SocketAddress& address) {
  for (int fd = 0; fd < searched_descriptors; ++fd) {
    sockaddr_storage storage{};
    socklen_t length = sizeof storage;
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) continue;
    const SocketAddress peer(reinterpret_cast<const sockaddr*>(&storage), length);
    if (peer.to_string() != address.to_string()) continue;
    int priority = -1;
    length = sizeof priority;
    ::getsockopt(fd, SOL_SOCKET, SO_PRIORITY, &priority, &length);
    return priority;
  }
  return -1;
}

class OwnSocketTest : public testing::Test {
 protected:
  OwnSocketTest() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const auto any = parse_socket_address("127.0.0.1:0");
    EXPECT_EQ(::bind(listener_.get(), any->get(), any->length()), 0);
    EXPECT_EQ(::listen(listener_.get(), 1), 0);
    address_ = *local_address(listener_.get());
  }
  int priority_when_connected(int asked_for) {
    const auto transport =
        connect_socket(runner_.loop(), address_, std::chrono::seconds(5), asked_for);
    transport->start(events_);
    EXPECT_TRUE(runner_.run_until([&] { return events_.connected == 1; }));
    return priority_of_socket_to(address_);
  }

  LoopRunner runner_;
  RecordingTransportEvents events_;
  UniqueFd listener_;
  SocketAddress address_;
};

TEST_F(OwnSocketTest, CarriesTheMarkWhenAskedTo) {
  EXPECT_EQ(priority_when_connected(own_socket_priority), own_socket_priority);
}

TEST_F(OwnSocketTest, HasTheKernelsPriorityOtherwise) { EXPECT_EQ(priority_when_connected(0), 0); }

}  // namespace
}  // namespace remora
