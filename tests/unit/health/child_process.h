// A real process to look at. It dies with the test, whatever happens.
#pragma once

#include <csignal>
#include <functional>

#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace remora {

class ChildProcess {
 public:
  // Runs body in a fork; the child never returns from it into the test.
  explicit ChildProcess(const std::function<void()>& body) : pid_(::fork()) {
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    body();
    ::_exit(0);
  }
  ~ChildProcess() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
};

// Asks until condition holds: what another process does can't be waited for otherwise. False when
// it never came to hold.
inline bool eventually(const std::function<bool()>& condition) {
  constexpr int kAttemptsMax = 2000;
  constexpr int kPauseMs = 5;
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    if (condition()) return true;
    ::poll(nullptr, 0, kPauseMs);
  }
  return false;
}

}  // namespace remora
