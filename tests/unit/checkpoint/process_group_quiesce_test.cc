// Real processes: the guard's whole point is what the kernel does when one dies.
#include "checkpoint/process_group_quiesce.h"

#include <thread>

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/checkpoint/checkpoint_fixture.h"

namespace remora::checkpoint {
namespace {

using std::chrono::milliseconds;

// A process group that writes to a pipe as long as it runs: a child and a thread in its child.
class Agent {
 public:
  Agent() {
    EXPECT_EQ(::pipe2(pipe_, O_CLOEXEC | O_NONBLOCK), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::setpgid(0, 0);
      if (::fork() == 0) {
        std::thread([this] { beat('t'); }).detach();
        beat('c');
      }
      beat('p');
    }
    ::setpgid(pid_, pid_);
    EXPECT_TRUE(beats());
  }
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;
  ~Agent() {
    ::kill(-pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    ::close(pipe_[0]);
    ::close(pipe_[1]);
  }
  pid_t pgid() const { return pid_; }

  // Something of the group runs within the limit.
  bool beats(int limit_ms = 5000) {
    drain();
    pollfd poll_fd{.fd = pipe_[0], .events = POLLIN, .revents = 0};
    return ::poll(&poll_fd, 1, limit_ms) == 1;
  }

 private:
  [[noreturn]] void beat(char byte) {
    while (true) {
      static_cast<void>(!::write(pipe_[1], &byte, 1));
      ::usleep(200);
    }
  }
  void drain() {
    char bytes[4096];
    while (::read(pipe_[0], bytes, sizeof bytes) > 0) {
    }
  }

  int pipe_[2] = {-1, -1};
  pid_t pid_ = 0;
};

TEST(ProcessGroupQuiesce, StopsEveryProcessAndThreadAndContinuesThem) {
  const SystemClock clock;
  Agent agent;
  Quiesce quiesce = process_group_quiesce(agent.pgid(), std::chrono::seconds(10), clock);
  ASSERT_TRUE(quiesce.stop().has_value());
  EXPECT_FALSE(agent.beats(50));  // stop() returned: nobody writes any more
  const auto quiet = quiesce.cont();
  ASSERT_TRUE(quiet.has_value());
  EXPECT_TRUE(quiet->unbroken);
  EXPECT_GE(quiet->stopped, milliseconds(50));
  EXPECT_TRUE(agent.beats());
}

TEST(ProcessGroupQuiesce, TheGuardContinuesItAfterTheLimit) {
  const SystemClock clock;
  Agent agent;
  Quiesce quiesce = process_group_quiesce(agent.pgid(), milliseconds(100), clock);
  ASSERT_TRUE(quiesce.stop().has_value());
  EXPECT_TRUE(agent.beats());  // nobody but the guard has continued it
  const auto quiet = quiesce.cont();
  ASSERT_TRUE(quiet.has_value());
  EXPECT_FALSE(quiet->unbroken);
}

TEST(ProcessGroupQuiesce, TheGuardContinuesItWhenTheSidecarIsKilled) {
  Agent agent;
  int ready[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  const pid_t sidecar = ::fork();
  if (sidecar == 0) {
    const SystemClock clock;
    Quiesce quiesce = process_group_quiesce(agent.pgid(), std::chrono::seconds(10), clock);
    const bool stopped = quiesce.stop().has_value();
    static_cast<void>(!::write(ready[1], stopped ? "y" : "n", 1));
    ::pause();
  }
  char answer = 0;
  ASSERT_EQ(::read(ready[0], &answer, 1), 1);
  ASSERT_EQ(answer, 'y');
  EXPECT_FALSE(agent.beats(50));
  ::kill(sidecar, SIGKILL);
  ::waitpid(sidecar, nullptr, 0);
  EXPECT_TRUE(agent.beats(5000));  // long before the limit of 10 s
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(ProcessGroupQuiesce, DroppingItContinues) {
  const SystemClock clock;
  Agent agent;
  {
    Quiesce quiesce = process_group_quiesce(agent.pgid(), std::chrono::seconds(10), clock);
    ASSERT_TRUE(quiesce.stop().has_value());
  }
  EXPECT_TRUE(agent.beats());
}

TEST(ProcessGroupQuiesce, LeavesNoChildToReapAndNoSignal) {
  const SystemClock clock;
  Agent agent;
  Quiesce quiesce = process_group_quiesce(agent.pgid(), std::chrono::seconds(1), clock);
  ASSERT_TRUE(quiesce.stop().has_value());
  ASSERT_TRUE(quiesce.cont().has_value());
  siginfo_t info{};
  // Only the agent is our child; it has not ended.
  EXPECT_EQ(::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT), 0);
  EXPECT_EQ(info.si_pid, 0);
}

TEST(ProcessGroupQuiesce, AGroupThatIsGoneIsNothingToStop) {
  const SystemClock clock;
  pid_t gone = 0;
  {
    Agent agent;
    gone = agent.pgid();
  }
  Quiesce quiesce = process_group_quiesce(gone, std::chrono::seconds(1), clock);
  EXPECT_TRUE(quiesce.stop().has_value());
  EXPECT_TRUE(quiesce.cont().has_value());
}

TEST(ProcessGroupQuiesce, NeverStopsItself) {
  const SystemClock clock;
  for (const pid_t pgid : {pid_t{0}, pid_t{1}, pid_t{-1}, ::getpgrp()}) {
    Quiesce quiesce = process_group_quiesce(pgid, std::chrono::seconds(1), clock);
    EXPECT_FALSE(quiesce.stop().has_value());
  }
}

}  // namespace
}  // namespace remora::checkpoint
