// Transports over real sockets: a socket pair where that will do, loopback TCP where it must be.
#include "sidecar/net/tcp.h"

#include <array>
#include <cerrno>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/net/recording_transport_events.h"

namespace remora {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

class TcpTest : public testing::Test {
 protected:
  // transport_ over one end of a pair, the other end in peer_.
  void pair_up() {
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends.data()), 0);
    peer_.reset(ends[1]);
    transport_ = adopt_socket(loop(), UniqueFd(ends[0]), "unix:");
    transport_->start(events_);
  }
  // A loopback listener; with nobody accepting once its queue is full.
  void listen(int backlog) {
    listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto any = parse_socket_address("127.0.0.1:0");
    ASSERT_EQ(::bind(listener_.get(), any->get(), any->length()), 0);
    ASSERT_EQ(::listen(listener_.get(), backlog), 0);
    address_ = *local_address(listener_.get());
  }
  // transport_ connected to peer_ over TCP.
  void connect_over_tcp() {
    listen(8);
    transport_ = connect_socket(loop(), address_, 5s);
    transport_->start(events_);
    ASSERT_TRUE(runner_.run_until([&] { return events_.connected == 1; }));
    peer_.reset(::accept(listener_.get(), nullptr, nullptr));
    ASSERT_TRUE(peer_);
  }
  void peer_writes(std::string_view text) {
    ASSERT_EQ(::write(peer_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  // What the peer can read now.
  std::string peer_reads() {
    std::string out;
    std::array<char, 65536> chunk{};
    for (;;) {
      const ssize_t n = ::recv(peer_.get(), chunk.data(), chunk.size(), MSG_DONTWAIT);
      if (n <= 0) return out;
      out.append(chunk.data(), static_cast<size_t>(n));
    }
  }
  // Closes with data unread by us, or with linger 0: the transport sees a reset.
  void peer_resets() {
    const linger hard{1, 0};
    ::setsockopt(peer_.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    peer_.reset();
  }
  EventLoop& loop() { return runner_.loop(); }

  LoopRunner runner_;
  RecordingTransportEvents events_;
  UniqueFd listener_;
  SocketAddress address_;
  UniqueFd peer_;
  std::unique_ptr<Transport> transport_;
};

TEST_F(TcpTest, ReadsWhatThePeerWrites) {
  pair_up();
  peer_writes("hello");
  ASSERT_TRUE(runner_.run_until([&] { return events_.read == "hello"; }));
  peer_writes(", world");
  EXPECT_TRUE(runner_.run_until([&] { return events_.read == "hello, world"; }));
  EXPECT_EQ(events_.eofs, 0);
}

TEST_F(TcpTest, AShortWriteIsFollowedByOneOnWritable) {
  pair_up();
  const std::string data(8 << 20, 'd');
  const Result<size_t> first = transport_->write(as_bytes(data));
  ASSERT_TRUE(first.has_value());
  ASSERT_GT(*first, 0u);
  ASSERT_LT(*first, data.size());
  runner_.run_for(10ms);
  EXPECT_EQ(events_.writables, 0) << "there is no room yet";

  std::string received = peer_reads();
  ASSERT_TRUE(runner_.run_until([&] { return events_.writables > 0; }));
  runner_.run_for(10ms);
  EXPECT_EQ(events_.writables, 1) << "once, though there is room all the time";

  size_t sent = *first;
  events_.after_writable = [&] {
    const Result<size_t> more = transport_->write(as_bytes(std::string_view(data).substr(sent)));
    ASSERT_TRUE(more.has_value());
    sent += *more;
  };
  events_.after_writable();
  ASSERT_TRUE(runner_.run_until([&] {
    received += peer_reads();
    return received.size() == data.size();
  }));
  EXPECT_EQ(received, data);
  EXPECT_GT(events_.writables, 1);
}

TEST_F(TcpTest, AWholeWriteIsNotFollowedByOnWritable) {
  pair_up();
  EXPECT_EQ(transport_->write(as_bytes("all of it")), size_t{9});
  EXPECT_EQ(transport_->write({}), size_t{0});
  runner_.run_for(10ms);
  EXPECT_EQ(events_.writables, 0);
  EXPECT_EQ(peer_reads(), "all of it");
}

TEST_F(TcpTest, TheEndOfInputComesOnceAfterTheBytesAndWritingGoesOn) {
  pair_up();
  peer_writes("last");
  ::shutdown(peer_.get(), SHUT_WR);
  ASSERT_TRUE(runner_.run_until([&] { return events_.eofs == 1; }));
  EXPECT_EQ(events_.read, "last");
  runner_.run_for(10ms);
  EXPECT_EQ(events_.eofs, 1);
  EXPECT_EQ(transport_->write(as_bytes("still here")), size_t{10});
  EXPECT_EQ(peer_reads(), "still here");
  // Pausing and going on doesn't bring it again.
  transport_->set_read_paused(true);
  transport_->set_read_paused(false);
  runner_.run_for(10ms);
  EXPECT_EQ(events_.eofs, 1);
}

TEST_F(TcpTest, ShutdownWriteEndsThePeersInputOnly) {
  pair_up();
  ASSERT_TRUE(transport_->write(as_bytes("bye")).has_value());
  transport_->shutdown_write();
  EXPECT_EQ(peer_reads(), "bye");
  char c = 0;
  EXPECT_EQ(::recv(peer_.get(), &c, 1, 0), 0);
  peer_writes("answer");
  EXPECT_TRUE(runner_.run_until([&] { return events_.read == "answer"; }));
}

TEST_F(TcpTest, AResetIsReportedOnceAndThenNothing) {
  connect_over_tcp();
  peer_resets();
  ASSERT_TRUE(runner_.run_until([&] { return events_.error.has_value(); }));
  EXPECT_EQ(events_.error->code, ErrorCode::kReset);
  EXPECT_THAT(events_.error->message, HasSubstr(address_.to_string()));
  runner_.run_for(10ms);
  EXPECT_EQ(events_.eofs, 0);
  EXPECT_EQ(events_.writables, 0);
}

TEST_F(TcpTest, AWriteToADeadPeerReturnsTheErrorAndDoesNotReportIt) {
  connect_over_tcp();
  transport_->set_read_paused(true);
  peer_resets();
  // The reset arrives at once on loopback.
  const Result<size_t> taken = transport_->write(as_bytes("anybody there?"));
  ASSERT_FALSE(taken.has_value());
  EXPECT_EQ(taken.error().code, ErrorCode::kReset);
  runner_.run_for(10ms);
  EXPECT_FALSE(events_.error);
}

TEST_F(TcpTest, PausedItReadsNothingUntilItGoesOn) {
  pair_up();
  transport_->set_read_paused(true);
  peer_writes("waiting");
  ::shutdown(peer_.get(), SHUT_WR);
  runner_.run_for(10ms);
  EXPECT_EQ(events_.read, "");
  EXPECT_EQ(events_.eofs, 0);
  transport_->set_read_paused(false);
  EXPECT_TRUE(runner_.run_until([&] { return events_.eofs == 1; }));
  EXPECT_EQ(events_.read, "waiting");
}

TEST_F(TcpTest, PausingInsideOnReadStopsAfterThatPiece) {
  pair_up();
  peer_writes(std::string(read_chunk_bytes_max + 1000, 'p'));
  events_.after_read = [&] { transport_->set_read_paused(true); };
  ASSERT_TRUE(runner_.run_until([&] { return !events_.read.empty(); }));
  runner_.run_for(10ms);
  EXPECT_EQ(events_.read.size(), read_chunk_bytes_max);
  transport_->set_read_paused(false);
  EXPECT_TRUE(
      runner_.run_until([&] { return events_.read.size() == read_chunk_bytes_max + 1000; }));
}

TEST_F(TcpTest, PausedItStillTellsThatThereIsRoom) {
  pair_up();
  transport_->set_read_paused(true);
  const std::string data(8 << 20, 'd');
  ASSERT_LT(transport_->write(as_bytes(data)).value(), data.size());
  peer_reads();
  EXPECT_TRUE(runner_.run_until([&] { return events_.writables == 1; }));
}

TEST_F(TcpTest, ASecondReceiverTakesOver) {
  pair_up();
  RecordingTransportEvents next;
  events_.after_read = [&] { transport_->set_events(next); };
  peer_writes("for the first");
  ASSERT_TRUE(runner_.run_until([&] { return !events_.read.empty(); }));
  peer_writes("for the second");
  ASSERT_TRUE(runner_.run_until([&] { return !next.read.empty(); }));
  EXPECT_EQ(events_.read, "for the first");
  EXPECT_EQ(next.read, "for the second");
}

TEST_F(TcpTest, MayBeLetGoInsideAnEvent) {
  pair_up();
  events_.after_read = [&] { loop().defer_delete(std::move(transport_)); };
  peer_writes("x");
  char c = 0;
  ASSERT_TRUE(runner_.run_until([&] { return ::recv(peer_.get(), &c, 1, MSG_DONTWAIT) == 0; }));
  EXPECT_EQ(events_.read, "x");
}

TEST_F(TcpTest, ConnectsAndCarriesBytesBothWays) {
  connect_over_tcp();
  EXPECT_EQ(transport_->peer_address(), address_.to_string());
  EXPECT_EQ(transport_->write(as_bytes("ping")), size_t{4});
  char ping[4] = {};
  ASSERT_EQ(::recv(peer_.get(), ping, sizeof ping, MSG_WAITALL), 4);
  peer_writes("pong");
  EXPECT_TRUE(runner_.run_until([&] { return events_.read == "pong"; }));
  EXPECT_EQ(events_.connected, 1);
  EXPECT_FALSE(events_.error);
}

TEST_F(TcpTest, ARefusedConnectIsUnavailableAndMayBeTriedAgain) {
  listen(1);
  listener_.reset();  // the port is free again
  transport_ = connect_socket(loop(), address_, 5s);
  EXPECT_FALSE(events_.error) << "never from inside the call";
  transport_->start(events_);
  EXPECT_FALSE(events_.error);
  ASSERT_TRUE(runner_.run_until([&] { return events_.error.has_value(); }));
  EXPECT_EQ(events_.error->code, ErrorCode::kUnavailable);
  EXPECT_EQ(events_.error->source, ErrorSource::kUpstream);
  EXPECT_TRUE(events_.error->retryable);
  EXPECT_THAT(events_.error->message, HasSubstr("connect to " + address_.to_string()));
  EXPECT_EQ(events_.connected, 0);
}

TEST_F(TcpTest, AConnectThatNobodyAnswersTimesOut) {
  listen(0);
  // Fill the queue; the kernel then leaves further SYNs unanswered.
  std::vector<UniqueFd> fillers;
  for (int i = 0; i < 8; ++i) {
    fillers.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    if (::connect(fillers.back().get(), address_.get(), address_.length()) != 0) {
      ASSERT_EQ(errno, EINPROGRESS);
    }
  }
  const MonotonicTime began = loop().clock().now();
  transport_ = connect_socket(loop(), address_, 50ms);
  transport_->start(events_);
  ASSERT_TRUE(runner_.run_until([&] { return events_.error.has_value(); }));
  EXPECT_EQ(events_.error->code, ErrorCode::kTimeout);
  EXPECT_TRUE(events_.error->retryable);
  EXPECT_GE(loop().clock().now() - began, 50ms);
  EXPECT_EQ(events_.connected, 0);
}

TEST_F(TcpTest, AMissingUnixSocketFailsFromTheLoop) {
  const auto nowhere = unix_socket_address(testing::TempDir() + "remora_no_such_socket");
  transport_ = connect_socket(loop(), *nowhere, 5s);
  transport_->start(events_);
  EXPECT_FALSE(events_.error);
  ASSERT_TRUE(runner_.run_until([&] { return events_.error.has_value(); }));
  EXPECT_EQ(events_.error->code, ErrorCode::kNotFound);
}

TEST_F(TcpTest, DestroyedWhileConnectingItSaysNothing) {
  listen(8);
  transport_ = connect_socket(loop(), address_, 1ms);
  transport_->start(events_);
  transport_.reset();
  runner_.run_for(20ms);
  EXPECT_EQ(events_.connected, 0);
  EXPECT_FALSE(events_.error);
}

}  // namespace
}  // namespace remora
