// The guard is a fork of a multi-threaded process: between clone and _exit it only makes system
// calls, on memory that was prepared before. It is made without an exit signal, so the sidecar's
// handling of its children never sees it, in a session of its own, so that signals to our group
// don't reach it, and it closes every descriptor but its socket, so that it keeps neither listening
// sockets nor locks alive after us.
#include "checkpoint/process_group_quiesce.h"

#include <algorithm>
#include <charconv>
#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/errors.h"
#include "sidecar/base/handle.h"

namespace remora::checkpoint {
namespace {

constexpr int settle_poll_us = 200;
constexpr int scans_max = 3;  // members that were born while we stopped the others
constexpr int guard_fired = 1;

std::unexpected<Error> failed(const char* what) {
  return std::unexpected<Error>(error_from_errno(errno, what, ErrorSource::kAgent));
}

// In the child. peer_fd reads nothing until the parent is done (one byte) or dead (end of file).
[[noreturn]] void guard(pid_t pgid, int peer_fd, int stop_max_ms) {
  ::setsid();
  ::dup2(peer_fd, 0);
  ::syscall(SYS_close_range, 1U, ~0U, 0U);
  pollfd poll_fd{.fd = 0, .events = POLLIN, .revents = 0};
  int ready = 0;
  do {
    ready = ::poll(&poll_fd, 1, stop_max_ms);
  } while (ready < 0 && errno == EINTR);
  char byte = 0;
  if (ready > 0 && ::read(0, &byte, 1) == 1) ::_exit(0);
  ::kill(-pgid, SIGCONT);
  ::_exit(guard_fired);
}

// State letter and process group of a process or thread, from its stat file.
struct ProcessState {
  char state = 0;
  pid_t pgrp = 0;
};
bool read_state(const std::string& stat_path, ProcessState& out) {
  const UniqueFd fd(::open(stat_path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return false;
  char text[512];
  const ssize_t n = ::read(fd.get(), text, sizeof text);
  if (n <= 0) return false;
  // The name in parentheses may hold anything; the fields follow its last ')'.
  const std::string_view view(text, static_cast<size_t>(n));
  const size_t end = view.rfind(')');
  if (end == std::string_view::npos) return false;
  // " S 1 4711 …": state, parent, process group.
  std::string_view rest = view.substr(end + 1);
  if (rest.size() < 4) return false;
  out.state = rest[1];
  rest.remove_prefix(3);
  const size_t space = rest.find(' ');
  if (space == std::string_view::npos) return false;
  rest.remove_prefix(space + 1);
  return std::from_chars(rest.data(), rest.data() + rest.size(), out.pgrp).ec == std::errc();
}

template <typename F>
void for_each_number(const std::string& directory, F&& f) {
  const CHandle<DIR, ::closedir> dir(::opendir(directory.c_str()));
  if (!dir) return;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string_view name = entry->d_name;
    pid_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error == std::errc() && end == name.data() + name.size()) f(number);
  }
}

std::vector<pid_t> members(pid_t pgid) {
  std::vector<pid_t> found;
  for_each_number("/proc", [&](pid_t pid) {
    ProcessState state;
    if (!read_state("/proc/" + std::to_string(pid) + "/stat", state)) return;
    if (state.pgrp == pgid && state.state != 'Z' && state.state != 'X') found.push_back(pid);
  });
  return found;
}

// Every thread of the process has stopped, or the process is gone.
bool stands_still(pid_t pid) {
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  bool still = true;
  for_each_number(tasks, [&](pid_t tid) {
    ProcessState state;
    if (!read_state(tasks + "/" + std::to_string(tid) + "/stat", state)) return;
    const std::string_view resting = "TtZXx";
    still = still && resting.find(state.state) != std::string_view::npos;
  });
  return still;
}

// A signal is only sent by kill(); wait until it has taken effect on everyone.
bool wait_until_still(pid_t pgid) {
  int waited_us = 0;
  for (int scan = 0; scan < scans_max; ++scan) {
    bool waited = false;
    for (const pid_t pid : members(pgid)) {
      while (!stands_still(pid)) {
        if (waited_us >= stop_settle_ms_max * 1000) return false;
        std::this_thread::sleep_for(std::chrono::microseconds(settle_poll_us));
        waited_us += settle_poll_us;
        waited = true;
      }
    }
    if (!waited) return true;
  }
  return true;
}

class Stopper {
 public:
  Stopper(pid_t pgid, Duration stop_max, const Clock& clock)
      : pgid_(pgid), stop_max_(stop_max), clock_(clock) {}
  Stopper(const Stopper&) = delete;
  Stopper& operator=(const Stopper&) = delete;
  ~Stopper() {
    if (stopped_) best_effort(cont());
  }

  Result<void> stop() {
    if (pgid_ <= 1 || pgid_ == ::getpgrp()) {
      return make_error(ErrorCode::kInternal, ErrorSource::kInternal,
                        "process group " + std::to_string(pgid_) + " may not be stopped");
    }
    if (auto started = start_guard(); !started) return started;
    stopped_ = true;
    stopped_at_ = clock_.now();
    if (::kill(-pgid_, SIGSTOP) != 0 && errno != ESRCH) {
      auto error = failed("stop the agent");
      best_effort(cont());
      return error;
    }
    if (wait_until_still(pgid_)) return {};
    best_effort(cont());
    return make_error(ErrorCode::kTimeout, ErrorSource::kAgent,
                      "the agent did not stop within " + std::to_string(stop_settle_ms_max) +
                          " ms (a thread is in an uninterruptible call)",
                      true);
  }

  Result<QuietPeriod> cont() {
    stopped_ = false;
    const int continued = ::kill(-pgid_, SIGCONT);
    const int err = errno;
    QuietPeriod quiet{.stopped = clock_.now() - stopped_at_};
    // Fails when the guard has fired and is gone: its exit status tells.
    static_cast<void>(::send(done_.get(), "c", 1, MSG_NOSIGNAL));
    done_.reset();
    int status = 0;
    while (::waitpid(guard_, &status, __WALL) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == guard_fired) quiet.unbroken = false;
    if (continued != 0 && err != ESRCH) {
      errno = err;
      return failed("continue the agent");
    }
    return quiet;
  }

 private:
  Result<void> start_guard() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
      return failed("socket pair for the guard");
    }
    const UniqueFd read_end(ends[0]);
    done_.reset(ends[1]);
    const int stop_max_ms = static_cast<int>(std::clamp<int64_t>(to_ms(stop_max_), 1, 10'000));
    // Not fork(): that would run handlers for it and signal us when the guard ends.
    const long pid = ::syscall(SYS_clone, 0L, nullptr, nullptr, nullptr, nullptr);
    if (pid == 0) guard(pgid_, read_end.get(), stop_max_ms);
    if (pid < 0) {
      done_.reset();
      return failed("start the guard");
    }
    guard_ = static_cast<pid_t>(pid);
    return {};
  }

  const pid_t pgid_;
  const Duration stop_max_;
  const Clock& clock_;
  bool stopped_ = false;
  MonotonicTime stopped_at_;
  UniqueFd done_;
  pid_t guard_ = 0;
};

}  // namespace

Quiesce process_group_quiesce(pid_t pgid, Duration stop_max, const Clock& clock) {
  auto stopper = std::make_shared<Stopper>(pgid, stop_max, clock);
  return {.stop = [stopper] { return stopper->stop(); },
          .cont = [stopper] { return stopper->cont(); }};
}

}  // namespace remora::checkpoint
