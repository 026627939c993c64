// The child process against real commands: how it ends, what it prints, what it leaves behind.
#include "sidecar/local/child_agent.h"

#include <chrono>
#include <csignal>
#include <fstream>
#include <optional>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sidecar/base/log.h"
#include "sidecar/local/agent_output.h"
#include "sidecar/net/event_loop.h"
#include "tests/fakes/temp_directory.h"

namespace remora {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

class ChildAgentTest : public ::testing::Test, protected OrchestratorEvents {
 protected:
  ChildAgentTest() { set_log_level(LogLevel::kOff); }
  ~ChildAgentTest() override { set_log_level(LogLevel::kInfo); }
  ChildAgentTest(const ChildAgentTest&) = delete;
  ChildAgentTest& operator=(const ChildAgentTest&) = delete;

  ChildAgent& agent(std::vector<std::string> command) {
    options_.command = std::move(command);
    agent_ = std::make_unique<ChildAgent>(loop_, options_);
    agent_->set_events(*this);
    return *agent_;
  }
  ChildAgent& shell(const std::string& script) { return agent({"/bin/sh", "-c", script}); }

  // Runs the loop until condition holds; the test fails after ten seconds.
  void run_until(std::move_only_function<bool()> condition) {
    condition_ = std::move(condition);
    bool late = false;
    const Subscription guard = loop_.add_timer(10s, [&] {
      late = true;
      loop_.stop();
    });
    poll();
    if (!condition_()) loop_.run();
    poll_timer_.cancel();
    ASSERT_FALSE(late) << "nothing happened for ten seconds";
  }
  void run_to_exit() {
    run_until([this] { return exit_ || start_error_; });
  }

  const AgentExit& exit() const { return *exit_; }
  static bool exists(pid_t pid) { return ::kill(pid, 0) == 0; }
  pid_t pid_in(const std::string& name) const {
    pid_t pid = 0;
    std::ifstream(directory_ + "/" + name) >> pid;
    return pid;
  }
  MonotonicTime now() const { return SystemClock().now(); }

  EventLoop loop_;
  ChildAgentOptions options_;
  std::unique_ptr<ChildAgent> agent_;
  TempDirectory temp_;
  const std::string& directory_ = temp_.path();
  std::vector<AgentInstance> started_;
  std::optional<Error> start_error_;
  std::optional<AgentExit> exit_;
  uint64_t exit_generation_ = 0;

 private:
  void poll() {
    if (condition_()) {
      loop_.stop();
      return;
    }
    poll_timer_ = loop_.add_timer(2ms, [this] { poll(); });
  }
  void on_agent_started(const AgentInstance& instance) override { started_.push_back(instance); }
  void on_agent_start_failed(const Error& error) override { start_error_ = error; }
  void on_agent_exited(uint64_t generation, const AgentExit& exit) override {
    exit_generation_ = generation;
    exit_ = exit;
  }

  std::move_only_function<bool()> condition_;
  Subscription poll_timer_;
};

TEST_F(ChildAgentTest, ReportsTheExitCode) {
  shell("exit 7").start_agent();
  EXPECT_TRUE(started_.empty()) << "an event from inside the call";
  run_to_exit();
  ASSERT_TRUE(exit_);
  EXPECT_EQ(exit().exit_code, 7);
  EXPECT_EQ(exit().signal, 0);
  EXPECT_FALSE(exit().oom_killed);
  ASSERT_EQ(started_.size(), 1u);
  EXPECT_EQ(started_[0].generation, 1u);
  EXPECT_EQ(exit_generation_, 1u);
}

TEST_F(ChildAgentTest, ReportsTheSignalAsAShellDoes) {
  shell("kill -SEGV $$").start_agent();
  run_to_exit();
  ASSERT_TRUE(exit_);
  EXPECT_EQ(exit().signal, SIGSEGV);
  EXPECT_EQ(exit().exit_code, 128 + SIGSEGV);
}

TEST_F(ChildAgentTest, CountsGenerations) {
  ChildAgent& a = shell("exit 1");
  for (uint64_t generation = 1; generation <= 3; ++generation) {
    exit_.reset();
    a.start_agent();
    run_to_exit();
    EXPECT_EQ(exit_generation_, generation);
  }
}

TEST_F(ChildAgentTest, NamesACommandThatIsNotFound) {
  agent({"no-such-command-here"}).start_agent();
  run_to_exit();
  ASSERT_TRUE(start_error_);
  EXPECT_EQ(start_error_->code, ErrorCode::kNotFound);
  EXPECT_FALSE(start_error_->retryable);
  EXPECT_THAT(start_error_->message, HasSubstr("no-such-command-here: command not found"));
  EXPECT_TRUE(started_.empty());
}

TEST_F(ChildAgentTest, AFailedStartLeavesNothingToCome) {
  agent({"/no/such/command"}).start_agent();
  run_to_exit();
  ASSERT_TRUE(start_error_);
  // Longer than any first look at the process that was never there.
  bool later = false;
  const Subscription timer = loop_.add_timer(100ms, [&] { later = true; });
  run_until([&] { return later; });
  agent({"/bin/sh", "-c", "exit 3"}).start_agent();
  run_until([this] { return exit_.has_value(); });
  EXPECT_EQ(exit().exit_code, 3);
}

TEST_F(ChildAgentTest, NamesAFileThatIsNotExecutable) {
  const std::string file = directory_ + "/plain";
  std::ofstream(file) << "text\n";
  agent({file}).start_agent();
  run_to_exit();
  ASSERT_TRUE(start_error_);
  EXPECT_EQ(start_error_->code, ErrorCode::kPermission);
  EXPECT_THAT(start_error_->message, HasSubstr(file));
}

TEST_F(ChildAgentTest, NamesAScriptWithoutAnInterpreterLine) {
  const std::string file = directory_ + "/script";
  std::ofstream(file) << "exit 0\n";
  ASSERT_EQ(::chmod(file.c_str(), 0755), 0);
  agent({file}).start_agent();
  run_to_exit();
  ASSERT_TRUE(start_error_);
  EXPECT_THAT(start_error_->message, HasSubstr("begins with #!"));
}

TEST_F(ChildAgentTest, NamesAWorkingDirectoryThatIsMissing) {
  options_.working_dir = directory_ + "/gone";
  agent({"true"}).start_agent();
  run_to_exit();
  ASSERT_TRUE(start_error_);
  EXPECT_THAT(start_error_->message, HasSubstr(directory_ + "/gone"));
}

TEST_F(ChildAgentTest, AFailedStartUsesUpNoGeneration) {
  ChildAgent& a = agent({"no-such-command-here"});
  a.start_agent();
  run_to_exit();
  start_error_.reset();
  options_.command = {"true"};
  a.set_options(options_);
  a.start_agent();
  run_to_exit();
  EXPECT_EQ(exit_generation_, 1u);
}

TEST_F(ChildAgentTest, RunsInTheWorkingDirectoryWithTheAddedEnvironment) {
  options_.working_dir = directory_;
  options_.environment = {"REMORA_TEST=one two", "HOME=/nowhere"};
  shell("pwd; echo $REMORA_TEST; echo $HOME; cat; ps -o pgid= -p $$ | tr -d ' '; echo $$")
      .start_agent();
  run_to_exit();
  const std::string tail = agent_->log_tail(1);
  const std::string pid = std::to_string(started_.at(0).pid);
  EXPECT_EQ(tail, directory_ + "\none two\n/nowhere\n" + pid + "\n" + pid + "\n")
      << "its own group, and nothing on stdin";
}

TEST_F(ChildAgentTest, ResetsSignalsThatRemoraIgnoresOrBlocks) {
  sigset_t blocked;
  sigset_t old;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &blocked, &old);
  shell("grep -E '^Sig(Blk|Ign)' /proc/self/status").start_agent();
  run_to_exit();
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  EXPECT_EQ(agent_->log_tail(1), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

TEST_F(ChildAgentTest, InheritsNoDescriptor) {
  const UniqueFd open_without_cloexec(::open("/dev/null", O_RDONLY));
  shell("ls /proc/self/fd | sort -n | tr '\\n' ' '").start_agent();
  run_to_exit();
  // 3 is ls reading the directory.
  EXPECT_EQ(agent_->log_tail(1), "0 1 2 3 \n");
}

TEST_F(ChildAgentTest, KeepsTheLastLinesOfBothStreamsAndOfTwoInstances) {
  options_.log_tail_bytes = 64;
  ChildAgent& a = shell("for i in 1 2 3 4 5 6 7 8 9; do echo out $i; done; echo err >&2; exit 3");
  for (int i = 0; i < 3; ++i) {
    exit_.reset();
    a.start_agent();
    run_to_exit();
  }
  EXPECT_EQ(a.log_tail(1), "");
  EXPECT_THAT(a.log_tail(2), HasSubstr("out 9\n"));
  EXPECT_THAT(a.log_tail(3), HasSubstr("err\n"));
  EXPECT_LE(a.log_tail(3).size(), 64u);
  EXPECT_EQ(a.log_tail(4), "");
}

TEST_F(ChildAgentTest, TakesALineOfMegabytesAndBytesThatAreNoText) {
  shell("head -c 3000000 /dev/zero | tr '\\0' x; echo; printf '\\377\\376 end\\n'").start_agent();
  run_to_exit();
  EXPECT_THAT(agent_->log_tail(1), HasSubstr("\xff\xfe end\n"));
}

TEST_F(ChildAgentTest, AFloodNeitherBlocksTheLoopNorGrowsTheTail) {
  options_.log_tail_bytes = 4096;
  shell("exec yes flood").start_agent();
  run_until([this] { return !started_.empty(); });
  int turns = 0;
  std::move_only_function<void()> turn;
  Subscription timer;
  turn = [&] {
    ++turns;
    timer = loop_.add_timer(1ms, [&] { turn(); });
  };
  turn();
  run_until([&] { return turns >= 50; });
  EXPECT_LE(agent_->log_tail(1).size(), 4096u);
  agent_->stop_agent(0s);
  run_to_exit();
  EXPECT_EQ(exit().signal, SIGKILL);
  EXPECT_THAT(agent_->log_tail(1), HasSubstr("flood\n"));
}

TEST_F(ChildAgentTest, StopsWithSigtermWhenTheAgentListens) {
  shell("trap 'echo bye; exit 0' TERM; echo ready; while :; do read x </dev/null; done")
      .start_agent();
  run_until([this] { return agent_->log_tail(1) == "ready\n"; });
  agent_->stop_agent(10s);
  run_to_exit();
  EXPECT_EQ(exit().exit_code, 0);
  EXPECT_EQ(agent_->log_tail(1), "ready\nbye\n");
}

TEST_F(ChildAgentTest, KillsAfterTheGraceWhenItDoesNot) {
  shell("trap '' TERM; echo ready; while :; do sleep 0.01; done").start_agent();
  run_until([this] { return agent_->log_tail(1) == "ready\n"; });
  const MonotonicTime began = now();
  agent_->stop_agent(100ms);
  run_to_exit();
  EXPECT_EQ(exit().signal, SIGKILL);
  EXPECT_GE(now() - began, 100ms);
  EXPECT_FALSE(exit().oom_killed);
}

TEST_F(ChildAgentTest, AShorterGraceHastensAStop) {
  shell("trap '' TERM; echo ready; while :; do sleep 0.01; done").start_agent();
  run_until([this] { return agent_->log_tail(1) == "ready\n"; });
  agent_->stop_agent(1h);
  agent_->stop_agent(2h);  // a longer one changes nothing
  agent_->stop_agent(0s);
  run_to_exit();
  EXPECT_EQ(exit().signal, SIGKILL);
}

TEST_F(ChildAgentTest, StopsAnAgentThatIsStopped) {
  shell("echo ready; kill -STOP $$; exit 9").start_agent();
  run_until([this] { return agent_->log_tail(1) == "ready\n"; });
  agent_->stop_agent(10s);
  run_to_exit();
  EXPECT_EQ(exit().signal, SIGTERM);
}

TEST_F(ChildAgentTest, CanBeStoppedBeforeExecHasFinished) {
  shell("sleep 60").start_agent();
  agent_->stop_agent(0s);
  run_to_exit();
  ASSERT_TRUE(exit_);
  EXPECT_EQ(exit().signal, SIGKILL);
  EXPECT_EQ(started_.size(), 1u);
}

TEST_F(ChildAgentTest, LeavesNothingOfItsGroupBehind) {
  shell("sleep 300 & echo $! >" + directory_ + "/child; exit 1").start_agent();
  run_to_exit();
  EXPECT_GT(pid_in("child"), 0);
  EXPECT_FALSE(exists(pid_in("child")));
}

TEST_F(ChildAgentTest, LeavesNothingBehindThatLeftItsSession) {
  shell("setsid sh -c 'echo $$ >" + directory_ + "/daemon; exec sleep 300' & while ! [ -s " +
        directory_ + "/daemon ]; do sleep 0.01; done; exit 1")
      .start_agent();
  run_to_exit();
  EXPECT_GT(pid_in("daemon"), 0);
  EXPECT_FALSE(exists(pid_in("daemon")));
}

TEST_F(ChildAgentTest, AKilledAgentTakesItsDescendantsAlong) {
  shell("setsid env -i sleep 300 & echo $! >" + directory_ + "/daemon; sleep 300 & echo $! >" +
        directory_ + "/child; echo ready; wait")
      .start_agent();
  run_until([this] { return agent_->log_tail(1) == "ready\n"; });
  agent_->stop_agent(0s);
  run_to_exit();
  EXPECT_GT(pid_in("daemon"), 0);
  EXPECT_FALSE(exists(pid_in("daemon"))) << "no mark, no session, but a child when it was stopped";
  EXPECT_FALSE(exists(pid_in("child")));
}

TEST_F(ChildAgentTest, LeavesOtherChildrenOfRemoraAlone) {
  const pid_t other = ::fork();
  if (other == 0) {
    ::execlp("sleep", "sleep", "300", nullptr);
    ::_exit(1);
  }
  shell("exit 1").start_agent();
  run_to_exit();
  EXPECT_TRUE(exists(other));
  ::kill(other, SIGKILL);
  int status = 0;
  EXPECT_EQ(::waitpid(other, &status, 0), other);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

TEST_F(ChildAgentTest, ReapsTheAgentsOrphansWhileItRuns) {
  // The inner sleep loses its parent and session, then ends while the agent lives on.
  shell("(setsid env -i sh -c 'exec sleep 0.1' & echo $! >" + directory_ +
        "/orphan); echo ready; sleep 300")
      .start_agent();
  run_until([this] { return agent_->log_tail(1) == "ready\n"; });
  const pid_t orphan = pid_in("orphan");
  ASSERT_GT(orphan, 0);
  run_until([orphan] { return !exists(orphan); });
  EXPECT_FALSE(exit_);
}

TEST_F(ChildAgentTest, SeesTheEndAtOnce) {
  shell("echo ready; exec sleep 300").start_agent();
  run_until([this] { return agent_->log_tail(1) == "ready\n"; });
  const MonotonicTime killed_at = now();
  ::kill(started_.at(0).pid, SIGKILL);
  run_to_exit();
  EXPECT_LT(now() - killed_at, 1s);
  EXPECT_FALSE(exit().oom_killed) << "a plain SIGKILL is no sign of the OOM killer";
}

TEST_F(ChildAgentTest, TheAgentDoesNotOutliveRemora) {
  // A stand-in for Remora that is killed with SIGKILL.
  const pid_t remora = ::fork();
  if (remora == 0) {
    EventLoop loop;
    options_.command = {"/bin/sh", "-c", "echo $$ >" + directory_ + "/agent; exec sleep 300"};
    ChildAgent agent(loop, options_);
    agent.set_events(*this);
    agent.start_agent();
    Subscription timer;
    std::move_only_function<void()> look = [&] {
      if (pid_in("agent") != 0) ::kill(::getpid(), SIGKILL);
      timer = loop.add_timer(2ms, [&] { look(); });
    };
    look();
    loop.run();
  }
  int status = 0;
  ASSERT_EQ(::waitpid(remora, &status, 0), remora);
  ASSERT_EQ(WTERMSIG(status), SIGKILL);
  const pid_t pid = pid_in("agent");
  ASSERT_GT(pid, 0);
  // Its death is the kernel's doing; where it is a zombie, its new parent has yet to collect it.
  run_until([pid] {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    std::getline(stat, text);
    return text.empty() || text.find(") Z ") != std::string::npos;
  });
}

TEST_F(ChildAgentTest, DestroyingItKillsTheAgent) {
  shell("sleep 300 & echo $! >" + directory_ + "/child; echo ready; wait").start_agent();
  run_until([this] { return agent_->log_tail(1) == "ready\n"; });
  const pid_t pid = started_.at(0).pid;
  agent_.reset();
  EXPECT_FALSE(exists(pid));
}

TEST_F(ChildAgentTest, LogsEachLineAsAnEvent) {
  const std::string file = directory_ + "/log";
  const UniqueFd saved(::dup(STDERR_FILENO));
  const UniqueFd log(::open(file.c_str(), O_WRONLY | O_CREAT, 0600));
  flush_log();
  ::dup2(log.get(), STDERR_FILENO);
  set_log_level(LogLevel::kInfo);
  shell("echo 'a \"quoted\" line'; echo trouble >&2").start_agent();
  run_to_exit();
  flush_log();
  ::dup2(saved.get(), STDERR_FILENO);
  std::ifstream in(file);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  EXPECT_THAT(text, HasSubstr(R"("event":"agent_output","stream":"stdout","generation":1,)"
                              R"("line":"a \"quoted\" line"})"));
  EXPECT_THAT(text, HasSubstr(R"("stream":"stderr","generation":1,"line":"trouble"})"));
}

}  // namespace
}  // namespace remora
