#include "sidecar/net/listener.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/net/recording_transport_events.h"

namespace remora {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using namespace std::chrono_literals;

UniqueFd caller_of(const SocketAddress& address) {
  UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::connect(fd.get(), address.get(), address.length()), 0);
  return fd;
}

class ListenerTest : public testing::Test {
 protected:
  ListenerTest() {
    folder_ = testing::TempDir() + "remora_listener_" + std::to_string(::getpid());
    std::filesystem::create_directories(folder_);
    path_ = folder_ + "/x.sock";
  }
  ListenerTest(const ListenerTest&) = delete;
  ListenerTest& operator=(const ListenerTest&) = delete;
  ~ListenerTest() override {
    accepted_.clear();
    std::filesystem::remove_all(folder_);
  }

  Result<std::unique_ptr<Listener>> open(const SocketAddress& address) {
    return Listener::open(runner_.loop(), address, [this](std::unique_ptr<Transport> transport) {
      accepted_.push_back(std::move(transport));
    });
  }
  SocketAddress at_path() { return *unix_socket_address(path_); }
  bool accepts(size_t count) {
    return runner_.run_until([this, count] { return accepted_.size() >= count; });
  }

  LoopRunner runner_;
  std::string folder_;
  std::string path_;
  std::vector<std::unique_ptr<Transport>> accepted_;
  Subscription turn_;
};

const SocketAddress any_port = *parse_socket_address("127.0.0.1:0");

TEST_F(ListenerTest, AcceptsOnTheRealPort) {
  const auto listener = open(any_port);
  ASSERT_TRUE(listener.has_value()) << listener.error().message;
  EXPECT_GT((*listener)->address().port(), 0);
  const UniqueFd caller = caller_of((*listener)->address());
  ASSERT_TRUE(accepts(1));
  EXPECT_EQ(accepted_[0]->peer_address(), local_address(caller.get())->to_string());
  RecordingTransportEvents events;
  accepted_[0]->start(events);
  ASSERT_EQ(::write(caller.get(), "hi", 2), 2);
  EXPECT_TRUE(runner_.run_until([&] { return events.read == "hi"; }));
}

TEST_F(ListenerTest, StoppedItTakesWhoWaitsAndRefusesWhoComes) {
  const auto listener = open(any_port);
  const SocketAddress address = (*listener)->address();
  const UniqueFd first = caller_of(address);
  const UniqueFd second = caller_of(address);
  (*listener)->set_paused(true);
  (*listener)->stop();
  EXPECT_EQ(accepted_.size(), 2u);
  const UniqueFd late(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_NE(::connect(late.get(), address.get(), address.length()), 0);
  EXPECT_EQ(errno, ECONNREFUSED);
  (*listener)->set_paused(false);  // changes nothing
  (*listener)->stop();
}

TEST_F(ListenerTest, ABusyPortIsNamedWithItsMend) {
  const auto first = open(any_port);
  const auto second = open((*first)->address());
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::kAlreadyExists);
  EXPECT_THAT(second.error().message, StartsWith("listen on " + (*first)->address().to_string()));
  EXPECT_THAT(second.error().message, HasSubstr("stop the process that holds it"));
}

TEST_F(ListenerTest, AForeignAddressIsNamedWithItsMend) {
  // TEST-NET-1: documentation only.
  const auto listener = open(*parse_socket_address("192.0.2.1:0"));
  ASSERT_FALSE(listener.has_value());
  EXPECT_THAT(listener.error().message, HasSubstr("this machine has no such address"));
}

TEST_F(ListenerTest, APortIsFreeAgainAtOnce) {
  auto first = open(any_port);
  const SocketAddress address = (*first)->address();
  const UniqueFd caller = caller_of(address);
  ASSERT_TRUE(accepts(1));
  accepted_.clear();  // our side closes first: the connection stays in TIME_WAIT
  first->reset();
  EXPECT_TRUE(open(address).has_value());
}

TEST_F(ListenerTest, AUnixSocketIsForItsOwnerOnlyAndGoesWithTheListener) {
  auto listener = open(at_path());
  ASSERT_TRUE(listener.has_value()) << listener.error().message;
  struct stat info{};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_TRUE(S_ISSOCK(info.st_mode));
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  const UniqueFd caller = caller_of(at_path());
  ASSERT_TRUE(accepts(1));
  EXPECT_EQ(accepted_[0]->peer_address(), "unix:");
  listener->reset();
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(ListenerTest, TheUmaskIsAsBefore) {
  const mode_t before = ::umask(0027);
  const auto listener = open(at_path());
  EXPECT_EQ(::umask(before), 0027u);
}

TEST_F(ListenerTest, AStaleSocketFileIsReplaced) {
  {
    // Its process has died: the file is there, nobody listens.
    const UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    const SocketAddress address = at_path();
    ASSERT_EQ(::bind(dead.get(), address.get(), address.length()), 0);
    ASSERT_EQ(::listen(dead.get(), 1), 0);
  }
  ASSERT_TRUE(std::filesystem::exists(path_));
  const auto listener = open(at_path());
  ASSERT_TRUE(listener.has_value()) << listener.error().message;
  const UniqueFd caller = caller_of(at_path());
  EXPECT_TRUE(accepts(1));
}

TEST_F(ListenerTest, ALiveSocketIsLeftAlone) {
  const auto first = open(at_path());
  const auto second = open(at_path());
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::kAlreadyExists);
  const UniqueFd caller = caller_of(at_path());
  // The look whether somebody is there was a connection too.
  EXPECT_TRUE(accepts(2));
}

// One that is too busy to accept is still alive, and asking must not wait for it.
TEST_F(ListenerTest, ALiveSocketWithAFullQueueIsLeftAlone) {
  const UniqueFd busy(::socket(AF_UNIX, SOCK_STREAM, 0));
  const SocketAddress address = at_path();
  ASSERT_EQ(::bind(busy.get(), address.get(), address.length()), 0);
  ASSERT_EQ(::listen(busy.get(), 0), 0);
  std::vector<UniqueFd> callers;
  int refused = 0;
  while (refused == 0 && callers.size() < 100) {
    callers.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    if (::connect(callers.back().get(), address.get(), address.length()) != 0) refused = errno;
  }
  ASSERT_EQ(refused, EAGAIN);
  const auto second = open(address);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::kAlreadyExists);
  EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_F(ListenerTest, AFileThatIsNoSocketIsLeftAlone) {
  std::ofstream(path_) << "precious";
  const auto listener = open(at_path());
  ASSERT_FALSE(listener.has_value());
  std::string content;
  std::ifstream(path_) >> content;
  EXPECT_EQ(content, "precious");
}

TEST_F(ListenerTest, PausedCallersWaitInTheQueue) {
  const auto listener = open(any_port);
  (*listener)->set_paused(true);
  const UniqueFd first = caller_of((*listener)->address());
  const UniqueFd second = caller_of((*listener)->address());
  runner_.run_for(20ms);
  EXPECT_TRUE(accepted_.empty());
  (*listener)->set_paused(false);
  EXPECT_TRUE(accepts(2));
}

TEST_F(ListenerTest, PausingInsideTheCallbackCountsAtOnce) {
  std::unique_ptr<Listener> listener;
  auto opened = Listener::open(runner_.loop(), any_port, [&](std::unique_ptr<Transport> transport) {
    accepted_.push_back(std::move(transport));
    listener->set_paused(true);
  });
  ASSERT_TRUE(opened.has_value());
  listener = *std::move(opened);
  std::vector<UniqueFd> callers;
  for (int i = 0; i < 3; ++i) callers.push_back(caller_of(listener->address()));
  ASSERT_TRUE(accepts(1));
  runner_.run_for(20ms);
  EXPECT_EQ(accepted_.size(), 1u);
}

TEST_F(ListenerTest, AFloodIsTakenInPartsSoThatOthersGetTheirTurn) {
  const auto listener = open(any_port);
  std::vector<UniqueFd> callers;
  const size_t flood = accepts_per_wake_max * 3;
  for (size_t i = 0; i < flood; ++i) callers.push_back(caller_of((*listener)->address()));
  // Each turn posts the next look, so that the counts are those between turns.
  std::vector<size_t> counts;
  std::function<void()> look = [&] {
    counts.push_back(accepted_.size());
    if (accepted_.size() == flood) {
      runner_.loop().stop();
    } else {
      turn_ = runner_.loop().add_timer(0ms, look);
    }
  };
  turn_ = runner_.loop().add_timer(0ms, look);
  runner_.loop().run();
  size_t most = 0;
  for (size_t i = 1; i < counts.size(); ++i) most = std::max(most, counts[i] - counts[i - 1]);
  EXPECT_GT(most, 0u);
  EXPECT_LE(most, size_t{accepts_per_wake_max});
}

// In a process of its own: limits bind the whole process. Ends with 0 when all went well.
[[noreturn]] void run_out_of_descriptors() {
  LoopRunner runner;
  std::vector<std::unique_ptr<Transport>> accepted;
  const auto listener = Listener::open(runner.loop(), any_port, [&](std::unique_ptr<Transport> t) {
    accepted.push_back(std::move(t));
  });
  if (!listener) std::_Exit(10);
  const UniqueFd first = caller_of((*listener)->address());
  const UniqueFd second = caller_of((*listener)->address());
  rlimit plenty{};
  ::getrlimit(RLIMIT_NOFILE, &plenty);
  // Every number up to the last one used is taken by now, or gets taken here.
  std::vector<UniqueFd> fillers;
  while (fillers.empty() || fillers.back().get() < second.get()) {
    fillers.emplace_back(::dup(first.get()));
  }
  const rlimit none_left{static_cast<rlim_t>(fillers.back().get() + 1), plenty.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &none_left);
  runner.run_for(std::chrono::milliseconds(accept_backoff_ms * 5 / 2));
  if (!accepted.empty()) std::_Exit(11);
  // A pause and its end in the middle of the back-off change nothing.
  (*listener)->set_paused(true);
  (*listener)->set_paused(false);
  ::setrlimit(RLIMIT_NOFILE, &plenty);
  if (!runner.run_until([&] { return accepted.size() == 2; })) std::_Exit(12);
  std::exit(0);
}

size_t count_of(std::string_view text, std::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

// It goes on by itself once there are descriptors again, and until then tries at its pace only:
// at most three times in two and a half back-offs.
TEST(ListenerDeathTest, OutOfDescriptorsItSleepsAndGoesOn) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      run_out_of_descriptors(), testing::ExitedWithCode(0),
      testing::ResultOf([](const std::string& log) { return count_of(log, "\"accept_paused\""); },
                        testing::AllOf(testing::Ge(1u), testing::Le(3u))));
}

}  // namespace
}  // namespace remora
