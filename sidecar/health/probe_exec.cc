// The exec probe: a command without a shell, in a process group of its own, watched by a pidfd.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sidecar/health/probe_attempt.h"

namespace remora {
namespace {

class ExecAttempt final : public ProbeAttempt {
 public:
  ExecAttempt(Loop& loop, ProbeDone done) : loop_(loop), done_(std::move(done)) {}
  ExecAttempt(const ExecAttempt&) = delete;
  ExecAttempt& operator=(const ExecAttempt&) = delete;
  ~ExecAttempt() override {
    if (pid_ > 0) {
      ::kill(-pid_, SIGKILL);
      // Killed: the wait is short, and leaves no zombie behind.
      ::waitpid(pid_, nullptr, 0);
    }
  }

  void begin(const ExecProbe& probe, Duration timeout) {
    what_ = "exec " + probe.command.front();
    if (const int error = spawn(probe); error != 0) {
      finish({.ok = false,
              .timed_out = false,
              .reason = fmt::format("{}: {}", what_, std::strerror(error))});
      return;
    }
    timer_ = loop_.add_timer(timeout, [this, timeout] {
      finish(
          {.ok = false,
           .timed_out = true,
           .reason = fmt::format("{}: still running after {:.1f} s", what_, to_seconds(timeout))});
    });
    output_watch_ = loop_.watch_fd(output_.get(), FdEvents::kRead, [this](FdEvents) { read(); });
    exit_watch_ = loop_.watch_fd(pidfd_.get(), FdEvents::kRead, [this](FdEvents) { on_exit(); });
  }

 private:
  int spawn(const ExecProbe& probe) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return errno;
    output_.reset(ends[0]);
    const UniqueFd writer(ends[1]);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, writer.get(), STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, writer.get(), STDERR_FILENO);
    if (!probe.working_dir.empty()) {
      posix_spawn_file_actions_addchdir_np(&actions, probe.working_dir.c_str());
    }
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(
        &attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    std::vector<char*> arguments;
    arguments.reserve(probe.command.size() + 1);
    for (const std::string& word : probe.command) {
      arguments.push_back(const_cast<char*>(word.c_str()));
    }
    arguments.push_back(nullptr);
    std::vector<char*> environment = environment_of(probe);
    pid_t pid = 0;
    const int error = ::posix_spawnp(&pid, arguments[0], &actions, &attributes, arguments.data(),
                                     environment.data());
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (error != 0) return error;
    pid_ = pid;
    pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    return pidfd_ ? 0 : errno;
  }

  // The probe's own entries take the place of Remora's of the same name.
  static std::vector<char*> environment_of(const ExecProbe& probe) {
    const auto name_of = [](std::string_view entry) { return entry.substr(0, entry.find('=')); };
    std::vector<char*> environment;
    environment.reserve(probe.environment.size() + 1);
    for (const std::string& entry : probe.environment) {
      environment.push_back(const_cast<char*>(entry.c_str()));
    }
    for (char** entry = environ; *entry != nullptr; ++entry) {
      const bool replaced = std::ranges::any_of(probe.environment, [&](const std::string& own) {
        return name_of(own) == name_of(*entry);
      });
      if (!replaced) environment.push_back(*entry);
    }
    environment.push_back(nullptr);
    return environment;
  }

  void read() {
    char bytes[4096];
    const ssize_t n = ::read(output_.get(), bytes, sizeof bytes);
    if (n > 0) {
      text_.append(bytes, std::min(static_cast<size_t>(n), probe_answer_bytes_max - text_.size()));
    }
    if (n == 0) output_watch_->set_events(FdEvents::kNone);
  }

  void on_exit() {
    // What it left running in its group; until it is waited for, nobody else gets its number.
    ::kill(-pid_, SIGKILL);
    int status = 0;
    const pid_t waited = ::waitpid(pid_, &status, WNOHANG);
    if (waited == 0) return;
    pid_ = 0;
    if (waited < 0) {
      finish({.ok = false,
              .timed_out = false,
              .reason = fmt::format("{}: {}", what_, std::strerror(errno))});
      return;
    }
    read();
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
      finish({.ok = true, .timed_out = false, .reason = {}});
      return;
    }
    const std::string how = WIFSIGNALED(status)
                                ? fmt::format("killed by signal {}", WTERMSIG(status))
                                : fmt::format("exit code {}", WEXITSTATUS(status));
    const std::string why = answer_excerpt(text_);
    finish({.ok = false,
            .timed_out = false,
            .reason = fmt::format("{}: {}{}{}", what_, how, why.empty() ? "" : ": ", why)});
  }

  void finish(ProbeAnswer answer) {
    exit_watch_.reset();
    output_watch_.reset();
    timer_ = loop_.add_timer(Duration::zero(), [this, answer = std::move(answer)]() mutable {
      ProbeDone done = std::move(done_);
      done(std::move(answer));
    });
  }

  Loop& loop_;
  ProbeDone done_;
  std::string what_;
  std::string text_;
  pid_t pid_ = 0;
  UniqueFd pidfd_;
  UniqueFd output_;
  Subscription timer_;
  std::unique_ptr<FdWatch> output_watch_;
  std::unique_ptr<FdWatch> exit_watch_;
};

}  // namespace

std::unique_ptr<ProbeAttempt> start_attempt(Loop& loop, const ExecProbe& probe, Duration timeout,
                                            ProbeDone done) {
  auto attempt = std::make_unique<ExecAttempt>(loop, std::move(done));
  attempt->begin(probe, timeout);
  return attempt;
}

}  // namespace remora
