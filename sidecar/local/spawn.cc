#include "sidecar/local/spawn.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <utility>

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace remora {
namespace {

constexpr int lost_parent_exit_code = 125;

enum class Stage : int { kSetUp, kWorkingDir, kExec };
struct ExecReport {
  Stage stage = Stage::kSetUp;
  int err = 0;
};

// All that the child needs, made before the fork: after it only async-signal-safe calls are
// allowed, for other threads may hold any lock.
struct ChildPlan {
  pid_t parent = 0;
  int output = -1;
  int error = -1;
  int report = -1;
  const char* working_dir = nullptr;
  std::vector<const char*> candidates;
  std::vector<char*> argv;
  std::vector<char*> envp;
};

[[noreturn]] void fail_child(const ChildPlan& plan, Stage stage) {
  const ExecReport report{stage, errno};
  // A write below PIPE_BUF is whole or fails; then nobody is there to read it.
  if (::write(plan.report, &report, sizeof report) < 0) ::_exit(lost_parent_exit_code);
  ::_exit(lost_parent_exit_code);
}

void reset_signals() {
  struct sigaction action{};
  action.sa_handler = SIG_DFL;
  for (int signo = 1; signo < NSIG; ++signo) ::sigaction(signo, &action, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

void exec_first(const ChildPlan& plan) {
  int denied = 0;
  for (const char* path : plan.candidates) {
    ::execve(path, plan.argv.data(), plan.envp.data());
    if (errno == EACCES) denied = errno;
    if (errno != ENOENT && errno != ENOTDIR && errno != EACCES) return;
  }
  // One that is there but can't be run says more than others that are not there.
  if (denied != 0) errno = denied;
}

[[noreturn]] void run_child(const ChildPlan& plan) {
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The parent may have died before the line above took effect.
  if (::getppid() != plan.parent) ::_exit(lost_parent_exit_code);
  reset_signals();
  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null < 0 || ::dup2(null, STDIN_FILENO) < 0 || ::dup2(plan.output, STDOUT_FILENO) < 0 ||
      ::dup2(plan.error, STDERR_FILENO) < 0) {
    fail_child(plan, Stage::kSetUp);
  }
  // Nothing else of ours is the agent's business. (A kernel before 5.11 lacks the flag; then we
  // rely on O_CLOEXEC alone.)
  ::syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
  if (plan.working_dir != nullptr && ::chdir(plan.working_dir) != 0) {
    fail_child(plan, Stage::kWorkingDir);
  }
  exec_first(plan);
  fail_child(plan, Stage::kExec);
}

bool can_be_retried(int err) {
  return err == EAGAIN || err == ENOMEM || err == EMFILE || err == ENFILE || err == ETXTBSY;
}

std::unexpected<Error> failed(std::string_view call) {
  const int err = errno;
  Error error = error_from_errno(err, call, ErrorSource::kAgent);
  error.retryable = can_be_retried(err);
  return std::unexpected(std::move(error));
}

// Both ends above standard error, so that dup2 in the child never meets its own source.
Result<std::pair<UniqueFd, UniqueFd>> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return failed("make a pipe for the agent");
  std::pair<UniqueFd, UniqueFd> pipe{ends[0], ends[1]};
  for (UniqueFd* end : {&pipe.first, &pipe.second}) {
    if (end->get() > STDERR_FILENO) continue;
    end->reset(::fcntl(end->get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    if (!*end) return failed("make a pipe for the agent");
  }
  return pipe;
}

std::string_view value_of(const std::vector<std::string>& environment, std::string_view name) {
  for (const std::string& entry : environment) {
    if (entry.size() > name.size() && entry[name.size()] == '=' && entry.starts_with(name)) {
      return std::string_view(entry).substr(name.size() + 1);
    }
  }
  return {};
}

// What execve shall try, in order.
std::vector<std::string> candidates_for(const SpawnPlan& plan) {
  const std::string& name = plan.command.front();
  if (name.find('/') != std::string::npos) return {name};
  std::vector<std::string> found;
  std::string_view path = value_of(plan.environment, "PATH");
  if (path.empty()) path = "/usr/local/bin:/usr/bin:/bin";
  while (!path.empty()) {
    const size_t end = std::min(path.find(':'), path.size());
    const std::string_view directory = path.substr(0, end);
    // An empty entry means the working directory (POSIX 8.3).
    found.push_back(directory.empty() ? name : std::string(directory) + "/" + name);
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return found;
}

std::vector<char*> pointers_to(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

Result<Spawned> spawn_agent(const SpawnPlan& plan) {
  auto output = make_pipe();
  auto error = make_pipe();
  auto report = make_pipe();
  for (const auto* pipe : {&output, &error, &report}) {
    if (!*pipe) return std::unexpected(pipe->error());
  }
  const std::vector<std::string> candidates = candidates_for(plan);
  ChildPlan child;
  child.parent = ::getpid();
  child.output = output->second.get();
  child.error = error->second.get();
  child.report = report->second.get();
  if (!plan.working_dir.empty()) child.working_dir = plan.working_dir.c_str();
  for (const std::string& path : candidates) child.candidates.push_back(path.c_str());
  child.argv = pointers_to(plan.command);
  child.envp = pointers_to(plan.environment);

  // No signal may run one of our handlers in the child: it would write into our loop's pipe.
  sigset_t all;
  sigset_t old;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &old);
  const pid_t pid = ::fork();
  if (pid == 0) run_child(child);
  const int fork_errno = errno;
  ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
  errno = fork_errno;
  if (pid < 0) return failed("start a process for the agent");

  Spawned spawned;
  spawned.pid = pid;
  // The child is ours and not collected yet, so its PID can't have been reused.
  spawned.pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!spawned.pidfd) {
    auto pidfd_error = failed("watch the agent (pidfd_open, Linux 5.3)");
    ::kill(pid, SIGKILL);
    return pidfd_error;
  }
  ::fcntl(output->first.get(), F_SETFL, O_NONBLOCK);
  ::fcntl(error->first.get(), F_SETFL, O_NONBLOCK);
  spawned.standard_output = std::move(output->first);
  spawned.standard_error = std::move(error->first);
  spawned.exec_report = std::move(report->first);
  return spawned;
}

std::optional<Error> read_exec_report(int exec_report, const SpawnPlan& plan) {
  ExecReport report;
  ssize_t n = 0;
  while ((n = ::read(exec_report, &report, sizeof report)) < 0 && errno == EINTR) {
  }
  // Closed by exec, or by the child's death, which is then seen as such.
  if (n != sizeof report) return std::nullopt;
  const std::string& name = plan.command.front();
  Error error;
  switch (report.stage) {
    case Stage::kSetUp:
      error = error_from_errno(report.err, "prepare " + name, ErrorSource::kAgent);
      break;
    case Stage::kWorkingDir:
      error = error_from_errno(report.err, "enter the working directory " + plan.working_dir,
                               ErrorSource::kAgent);
      error.code = ErrorCode::kInvalidArgument;
      break;
    case Stage::kExec:
      error = error_from_errno(report.err, "run " + name, ErrorSource::kAgent);
      if (report.err == ENOENT && name.find('/') == std::string::npos) {
        error.message = name + ": command not found in PATH";
      } else if (report.err == ENOEXEC) {
        error.message += " (neither a program nor a script that begins with #!)";
      }
      break;
  }
  error.retryable = can_be_retried(report.err);
  return error;
}

std::vector<std::string> environment_with(const std::vector<std::string>& additions) {
  const auto name_of = [](std::string_view entry) { return entry.substr(0, entry.find('=')); };
  std::vector<std::string> environment = additions;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const bool replaced = std::any_of(
        additions.begin(), additions.end(),
        [&](const std::string& addition) { return name_of(addition) == name_of(*entry); });
    if (!replaced) environment.emplace_back(*entry);
  }
  return environment;
}

}  // namespace remora
