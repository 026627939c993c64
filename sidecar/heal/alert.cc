#include "sidecar/heal/alert.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sidecar/base/handle.h"
#include "sidecar/base/log.h"

extern char** environ;  // NOLINT(readability-redundant-declaration): POSIX wants it so

namespace remora {
namespace {

void destroy(posix_spawn_file_actions_t* actions) { posix_spawn_file_actions_destroy(actions); }
void destroy(posix_spawnattr_t* attributes) { posix_spawnattr_destroy(attributes); }

// Starts the command in a process group of its own, stdin from the pipe, its output dropped.
Result<pid_t> spawn(const std::vector<std::string>& command, int stdin_fd) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_adddup2(&actions, stdin_fd, STDIN_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  pid_t pid = 0;
  const int err = posix_spawnp(&pid, argv[0], &actions, &attributes, argv.data(), environ);
  destroy(&actions);
  destroy(&attributes);
  if (err != 0) return std::unexpected(error_from_errno(err, "start " + command[0]));
  return pid;
}

// Feeds text into the command and waits for its end. Gives up at the deadline, or when cancel_fd
// becomes readable.
Result<int> feed_and_wait(pid_t pid, UniqueFd to_stdin, std::string_view text, int cancel_fd) {
  const SystemClock clock;
  const MonotonicTime deadline = clock.now() + std::chrono::milliseconds(alert_command_wait_ms_max);
  const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  bool ended = false;
  while (!ended) {
    const int64_t left_ms = to_ms(deadline - clock.now());
    std::array<pollfd, 3> fds = {pollfd{pidfd.get(), POLLIN, 0}, pollfd{cancel_fd, POLLIN, 0},
                                 pollfd{to_stdin.get(), POLLOUT, 0}};
    if (left_ms <= 0 || ::poll(fds.data(), fds.size(), static_cast<int>(left_ms) + 1) == 0 ||
        fds[1].revents != 0) {
      break;
    }
    ended = fds[0].revents != 0;
    if (fds[2].revents != 0) {
      const ssize_t n = ::write(to_stdin.get(), text.data(), text.size());
      if (n > 0) text.remove_prefix(static_cast<size_t>(n));
      // A command that closes its stdin has read enough.
      if (text.empty() || (n < 0 && errno != EAGAIN && errno != EINTR)) to_stdin.reset();
    }
  }
  if (!ended) ::kill(-pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!ended) {
    return make_error(ErrorCode::kTimeout, ErrorSource::kInternal,
                      fmt::format("not finished within {} ms, killed", alert_command_wait_ms_max));
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

Result<void> run_command(const std::vector<std::string>& command, std::string_view text,
                         int cancel_fd) {
  // A pipe whose reader is gone must be an error here, not a signal.
  sigset_t pipe_signal;
  sigemptyset(&pipe_signal);
  sigaddset(&pipe_signal, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe_signal, nullptr);

  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    return std::unexpected(error_from_errno(errno, "pipe"));
  }
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  ::fcntl(write_end.get(), F_SETFL, O_NONBLOCK);
  const auto pid = spawn(command, read_end.get());
  if (!pid) return std::unexpected(pid.error());
  read_end.reset();
  const auto code = feed_and_wait(*pid, std::move(write_end), text, cancel_fd);
  if (!code) return std::unexpected(code.error());
  if (*code != 0) {
    return make_error(ErrorCode::kInternal, ErrorSource::kInternal,
                      fmt::format("exit code {}", *code));
  }
  return {};
}

}  // namespace

ExecAlerter::ExecAlerter(Loop& loop, std::vector<std::string> command)
    : loop_(loop),
      command_(std::move(command)),
      cancel_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      worker_(std::make_unique<WorkerThread>()) {}

ExecAlerter::~ExecAlerter() {
  *alive_ = false;
  const uint64_t one = 1;
  // The counter can't overflow, so this can't fail; were it to, we would wait for the time limit.
  if (::write(cancel_.get(), &one, sizeof one) < 0) log_warn("alert_cancel_failed");
}

void ExecAlerter::alert(const Incident& incident, Task done) {
  log_error("alert", {{"incident", incident.id},
                      {"fault", fault_kind_name(incident.fault)},
                      {"closed_reason", closed_reason_name(incident.closed_reason)},
                      {"summary", incident.summary}});
  if (command_.empty() || waiting_ >= alerts_waiting_max) {
    if (!command_.empty()) log_warn("alert_command_skipped", {{"incident", incident.id}});
    loop_.post(std::move(done));
    return;
  }
  ++waiting_;
  worker_->submit([this, command = command_, text = incident_to_json(incident) + "\n",
                   id = incident.id, alive = alive_, done = std::move(done)]() mutable {
    const auto result = run_command(command, text, cancel_.get());
    if (!result) {
      log_warn("alert_command_failed", {{"incident", id}, {"error", result.error().message}});
    }
    loop_.post_from_any_thread([this, alive = std::move(alive), done = std::move(done)]() mutable {
      if (!*alive) return;
      --waiting_;
      done();
    });
  });
}

}  // namespace remora
