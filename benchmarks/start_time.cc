#include "benchmarks/start_time.h"

#include <array>
#include <csignal>
#include <ctime>
#include <string_view>

#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "benchmarks/http_text.h"
#include "benchmarks/loopback.h"

namespace remora::bench {
namespace {

constexpr int64_t poll_interval_ns = 100'000;
constexpr int64_t reply_wait_ms_max = 1000;

void pause_between_polls() {
  const timespec interval{0, poll_interval_ns};
  ::nanosleep(&interval, nullptr);
}

bool answers_200(uint16_t port) {
  const auto fd = connect_to(port);
  if (!fd) return false;
  const timeval limit{reply_wait_ms_max / 1000, 0};
  ::setsockopt(fd->get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  constexpr std::string_view request = "GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
  if (::send(fd->get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) return false;
  std::array<char, 256> reply{};
  const ssize_t got = ::recv(fd->get(), reply.data(), reply.size(), 0);
  return got > 0 && status_of({reply.data(), static_cast<size_t>(got)}) == 200;
}

// In the child, between fork and exec: only async-signal-safe calls.
[[noreturn]] void become(const StartPlan& plan, char* const* arguments) {
  if (plan.cpu >= 0) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(static_cast<size_t>(plan.cpu), &cores);
    ::sched_setaffinity(0, sizeof cores, &cores);
  }
  const int nowhere = ::open("/dev/null", O_RDWR);
  if (nowhere < 0) ::_exit(126);
  ::dup2(nowhere, STDIN_FILENO);
  ::dup2(nowhere, STDOUT_FILENO);
  ::dup2(nowhere, STDERR_FILENO);
  ::execvp(arguments[0], arguments);
  ::_exit(127);
}

bool has_ended(pid_t child, int options) { return ::waitpid(child, nullptr, options) == child; }

void stop(const Clock& clock, pid_t child) {
  ::kill(child, SIGTERM);
  const MonotonicTime deadline = clock.now() + std::chrono::milliseconds(stop_ms_max);
  while (clock.now() < deadline) {
    if (has_ended(child, WNOHANG)) return;
    pause_between_polls();
  }
  ::kill(child, SIGKILL);
  has_ended(child, 0);
}

}  // namespace

Result<Duration> time_to_first_reply(const Clock& clock, const StartPlan& plan) {
  if (connect_to(plan.port)) {
    return make_error(ErrorCode::kUnavailable, ErrorSource::kInternal,
                      "something listens on port " + std::to_string(plan.port) + " already");
  }
  std::vector<char*> arguments;
  arguments.reserve(plan.command.size() + 1);
  for (const std::string& word : plan.command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);

  const MonotonicTime start = clock.now();
  const pid_t child = ::fork();
  if (child < 0) return std::unexpected(error_from_errno(errno, "fork"));
  if (child == 0) become(plan, arguments.data());
  const MonotonicTime deadline = start + std::chrono::milliseconds(start_ms_max);
  while (clock.now() < deadline) {
    if (answers_200(plan.port)) {
      const Duration elapsed = clock.now() - start;
      stop(clock, child);
      return elapsed;
    }
    if (has_ended(child, WNOHANG)) {
      return make_error(ErrorCode::kUnavailable, ErrorSource::kInternal,
                        plan.command.front() + " ended before it answered");
    }
    pause_between_polls();
  }
  stop(clock, child);
  return make_error(ErrorCode::kTimeout, ErrorSource::kInternal,
                    plan.command.front() + " did not answer 200 in time");
}

}  // namespace remora::bench
