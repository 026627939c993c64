#include "config/isolated_load.h"

#include <cerrno>
#include <csignal>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config/load_reply.pb.h"
#include "config/render.h"
#include "sidecar/base/handle.h"

namespace remora::config {
namespace {

constexpr std::string_view no_file = "command line";

Error child_failed(ErrorCode code, std::string_view what) {
  return {code, ErrorSource::kConfig, true, "load the configuration: " + std::string(what)};
}

Result<LoadResult> load_here(const std::string& path, std::span<const Override> overrides) {
  if (path.empty()) return load_yaml({}, no_file, overrides);
  return load_file(path, overrides);
}

IsolatedLoad render_here(LoadResult loaded) {
  IsolatedLoad result;
  if (loaded.ok()) {
    result.yaml = render_yaml(loaded.config);
    result.json = render_json(loaded.config);
  }
  result.config = std::move(loaded.config);
  result.problems = std::move(loaded.problems);
  return result;
}

Result<IsolatedLoad> load_and_render_here(const std::string& path,
                                          std::span<const Override> overrides) {
  Result<LoadResult> loaded = load_here(path, overrides);
  if (!loaded) return std::unexpected(std::move(loaded.error()));
  return render_here(*std::move(loaded));
}

// In the child.
std::string make_reply(const std::string& path, std::span<const Override> overrides) {
  LoadReply reply;
  Result<IsolatedLoad> loaded = load_and_render_here(path, overrides);
  if (!loaded) {
    reply.set_error_code(static_cast<int>(loaded.error().code) + 1);
    reply.set_error_message(loaded.error().message);
    return reply.SerializeAsString();
  }
  IsolatedLoad& result = *loaded;
  *reply.mutable_config() = std::move(result.config);
  reply.set_yaml(std::move(result.yaml));
  reply.set_json(std::move(result.json));
  for (Problem& problem : result.problems) {
    LoadReply::LoadProblem& copy = *reply.add_problems();
    copy.set_file(std::move(problem.file));
    copy.set_line(problem.line);
    copy.set_column(problem.column);
    copy.set_path(std::move(problem.path));
    copy.set_message(std::move(problem.message));
    copy.set_mend(std::move(problem.mend));
  }
  return reply.SerializeAsString();
}

[[noreturn]] void run_child(int out, const std::string& path,
                            std::span<const Override> overrides) noexcept {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const std::string reply = make_reply(path, overrides);
  for (size_t sent = 0; sent < reply.size();) {
    const ssize_t n = ::write(out, reply.data() + sent, reply.size() - sent);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) ::_exit(1);
    sent += static_cast<size_t>(n);
  }
  ::_exit(0);
}

// Until the child has closed its end.
Result<std::string> read_reply(int in) {
  const SystemClock clock;
  const MonotonicTime end = clock.now() + std::chrono::milliseconds(isolated_load_ms_max);
  std::string reply;
  char chunk[16 * 1024];
  while (true) {
    const int64_t left_ms = to_ms(end - clock.now());
    if (left_ms <= 0) {
      return std::unexpected(child_failed(ErrorCode::kTimeout, "took too long"));
    }
    pollfd poll_fd{in, POLLIN, 0};
    const int ready = ::poll(&poll_fd, 1, static_cast<int>(left_ms));
    if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
    const ssize_t n = ::read(in, chunk, sizeof chunk);
    if (n == 0) return reply;
    if (n < 0 && errno != EINTR) {
      return std::unexpected(error_from_errno(errno, "read from the loading process"));
    }
    if (n > 0) reply.append(chunk, static_cast<size_t>(n));
    if (reply.size() > isolated_reply_bytes_max) {
      return std::unexpected(child_failed(ErrorCode::kLimitExceeded, "result too large"));
    }
  }
}

// Ends the child if it still runs; true when it ended well by itself.
bool reap(pid_t child, bool kill_first) {
  if (kill_first) ::kill(child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return false;
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

Result<IsolatedLoad> parse_reply(const std::string& bytes) {
  LoadReply reply;
  if (!reply.ParseFromString(bytes)) {
    return std::unexpected(child_failed(ErrorCode::kInternal, "result is damaged"));
  }
  if (reply.error_code() != 0) {
    return std::unexpected(Error{static_cast<ErrorCode>(reply.error_code() - 1),
                                 ErrorSource::kConfig, false, reply.error_message()});
  }
  IsolatedLoad result;
  result.config = std::move(*reply.mutable_config());
  result.yaml = std::move(*reply.mutable_yaml());
  result.json = std::move(*reply.mutable_json());
  for (LoadReply::LoadProblem& problem : *reply.mutable_problems()) {
    result.problems.push_back({std::move(*problem.mutable_file()), problem.line(), problem.column(),
                               std::move(*problem.mutable_path()),
                               std::move(*problem.mutable_message()),
                               std::move(*problem.mutable_mend())});
  }
  return result;
}

}  // namespace

Result<IsolatedLoad> load_isolated(const std::string& path, std::span<const Override> overrides) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return load_and_render_here(path, overrides);
  }
  const UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  // A signal meant for us must not run our handlers a second time in the child.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t child = ::fork();
  if (child == 0) run_child(out.get(), path, overrides);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (child < 0) return load_and_render_here(path, overrides);
  out.reset();
  Result<std::string> bytes = read_reply(in.get());
  const bool ended_well = reap(child, !bytes.has_value());
  if (!bytes) return std::unexpected(std::move(bytes.error()));
  if (!ended_well && bytes->empty()) {
    return std::unexpected(child_failed(ErrorCode::kInternal, "the loading process died"));
  }
  return parse_reply(*bytes);
}

}  // namespace remora::config
