#include "k8s/kubeconfig/exec_credential.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <nlohmann/json.hpp>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "k8s/inject/json_view.h"
#include "sidecar/base/clock.h"
#include "sidecar/base/handle.h"

namespace remora::k8s {
namespace {

std::unexpected<Error> failed(const ExecPlugin& plugin, ErrorCode code, const std::string& what) {
  std::string message = "kubeconfig: exec " + plugin.command + ": " + what;
  if (!plugin.install_hint.empty()) message.append("; ").append(plugin.install_hint);
  return make_error(code, ErrorSource::kConfig, std::move(message));
}

std::unexpected<Error> unusable(const std::string& what) {
  return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig, what);
}

std::vector<std::string> environment_for(const ExecPlugin& plugin) {
  const Json question{{"apiVersion", plugin.api_version},
                      {"kind", "ExecCredential"},
                      {"spec", {{"interactive", ::isatty(STDIN_FILENO) == 1}}}};
  std::vector<std::string> environment{"KUBERNETES_EXEC_INFO=" + question.dump()};
  for (const auto& [name, value] : plugin.environment) environment.push_back(name + "=" + value);
  const size_t ours = environment.size();
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string_view entry = *at;
    const std::string_view name = entry.substr(0, entry.find('=') + 1);
    bool replaced = false;
    for (size_t i = 0; i < ours && !replaced; ++i) replaced = environment[i].starts_with(name);
    if (!replaced) environment.emplace_back(entry);
  }
  return environment;
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

struct SpawnActions {
  SpawnActions() { ::posix_spawn_file_actions_init(&actions); }
  ~SpawnActions() { ::posix_spawn_file_actions_destroy(&actions); }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;
  posix_spawn_file_actions_t actions{};
};

struct Started {
  pid_t pid = 0;
  UniqueFd output;
};

Result<Started> start(const ExecPlugin& plugin) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    return std::unexpected(error_from_errno(errno, "pipe"));
  }
  Started started{.pid = 0, .output = UniqueFd(ends[0])};
  const UniqueFd write_end(ends[1]);
  SpawnActions spawn;
  ::posix_spawn_file_actions_adddup2(&spawn.actions, write_end.get(), STDOUT_FILENO);
  std::vector<std::string> command{plugin.command};
  command.insert(command.end(), plugin.arguments.begin(), plugin.arguments.end());
  std::vector<std::string> environment = environment_for(plugin);
  const int error = ::posix_spawnp(&started.pid, plugin.command.c_str(), &spawn.actions, nullptr,
                                   pointers_to(command).data(), pointers_to(environment).data());
  if (error == 0) return started;
  return failed(plugin, ErrorCode::kNotFound,
                "can't be started: " + error_from_errno(error, "exec").message);
}

// Everything it prints, until it closes its output.
Result<std::string> read_output(const ExecPlugin& plugin, int fd) {
  const SystemClock clock;
  const MonotonicTime end = clock.now() + std::chrono::milliseconds(exec_answer_ms_max);
  std::string text;
  std::array<char, 4096> piece{};
  while (true) {
    const Duration left = end - clock.now();
    pollfd wait{.fd = fd, .events = POLLIN, .revents = 0};
    const int ready = left.count() > 0 ? ::poll(&wait, 1, static_cast<int>(to_ms(left)) + 1) : 0;
    if (ready == 0) return failed(plugin, ErrorCode::kTimeout, "has printed nothing in time");
    const ssize_t count = ready < 0 ? -1 : ::read(fd, piece.data(), piece.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return std::unexpected(error_from_errno(errno, "read from exec plugin"));
    if (count == 0) return text;
    text.append(piece.data(), static_cast<size_t>(count));
    if (text.size() > exec_output_bytes_max) {
      return failed(plugin, ErrorCode::kLimitExceeded, "prints too much");
    }
  }
}

}  // namespace

Result<void> add_exec_credential(const ExecPlugin& plugin, ApiServer& server) {
  Result<Started> started = start(plugin);
  if (!started) return std::unexpected(std::move(started.error()));
  Result<std::string> text = read_output(plugin, started->output.get());
  if (!text) ::kill(started->pid, SIGKILL);
  int status = 0;
  while (::waitpid(started->pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!text) return std::unexpected(std::move(text.error()));
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    const std::string how = WIFEXITED(status)
                                ? "ended with exit code " + std::to_string(WEXITSTATUS(status))
                                : "was killed";
    return failed(plugin, ErrorCode::kInvalidArgument, how);
  }
  if (const Result<void> read = read_exec_credential(*text, server); !read) {
    return failed(plugin, ErrorCode::kInvalidArgument, read.error().message);
  }
  return {};
}

Result<void> read_exec_credential(std::string_view text, ApiServer& server) {
  if (text.size() > exec_output_bytes_max) return unusable("printed too much");
  const Json answer = Json::parse(text, nullptr, false);
  if (answer.is_discarded() || text_of(answer, "kind") != "ExecCredential") {
    return unusable("did not print an ExecCredential");
  }
  const Json* status = find_object(answer, "status");
  if (status == nullptr) return unusable("its ExecCredential has no status");
  std::string token = text_of(*status, "token");
  std::string certificate = text_of(*status, "clientCertificateData");
  std::string key = text_of(*status, "clientKeyData");
  if (certificate.empty() != key.empty()) {
    return unusable("clientCertificateData and clientKeyData belong together");
  }
  if (token.empty() && certificate.empty()) {
    return unusable("its ExecCredential has neither a token nor a certificate");
  }
  if (!token.empty()) {
    server.token = std::move(token);
    server.token_file.clear();
  }
  if (!certificate.empty()) {
    server.certificate_pem = std::move(certificate);
    server.private_key_pem = std::move(key);
  }
  return {};
}

}  // namespace remora::k8s
