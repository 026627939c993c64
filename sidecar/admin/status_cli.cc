#include "sidecar/admin/status_cli.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <poll.h>

#include "sidecar/admin/client.h"
#include "sidecar/admin/source.h"
#include "sidecar/admin/status.h"
#include "sidecar/base/clock.h"
#include "sidecar/base/exit_codes.h"

namespace remora {
namespace {

constexpr Duration answer_wait = std::chrono::seconds(5);
// A pod's start waits for this.
constexpr int started_poll_ms = 5;
constexpr int started_limit_s_max = 3600;

struct StatusOptions {
  std::string socket;
  std::string store;
  bool json = false;
  int limit_s = 60;
};

// To standard error: what failed and what to do.
int fail(const char* command, const std::string& message, int exit_code) {
  std::fprintf(stderr, "remora %s: %s\n", command, message.c_str());
  return exit_code;
}

void print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

// What the command line says, else the environment.
std::string socket_of(const StatusOptions& options) {
  if (!options.socket.empty()) return options.socket;
  if (!options.store.empty()) return options.store + "/admin.sock";
  const char* from_environment = std::getenv("REMORA_ADMIN");
  return from_environment == nullptr ? std::string() : std::string(from_environment);
}

// The reply when its status is 2xx; otherwise prints why and sets exit_code.
std::optional<AdminReply> ask(const char* command, const StatusOptions& options,
                              std::string_view method, std::string_view path, int& exit_code) {
  const std::string socket = socket_of(options);
  if (socket.empty()) {
    exit_code = fail(command, "no socket named; write --admin SOCKET or --store DIR", exit_usage);
    return std::nullopt;
  }
  Result<AdminReply> reply = admin_request(socket, method, path, answer_wait);
  if (!reply) {
    const bool nobody =
        reply.error().code == ErrorCode::kNotFound || reply.error().code == ErrorCode::kUnavailable;
    exit_code = fail(
        command, reply.error().message + (nobody ? "; is remora running with this socket?" : ""),
        exit_failed);
    return std::nullopt;
  }
  if (reply->status / 100 != 2) {
    exit_code = fail(command, "answered " + std::to_string(reply->status) + ": " + reply->body,
                     exit_failed);
    return std::nullopt;
  }
  return *std::move(reply);
}

int run_status(const StatusOptions& options) {
  int exit_code = exit_ok;
  const std::optional<AdminReply> reply = ask("status", options, "GET", "/status", exit_code);
  if (!reply) return exit_code;
  const SystemClock clock;
  const Result<StatusSummary> summary = summarise_status(reply->body, to_unix_ns(clock.wall_now()));
  if (!summary) return fail("status", summary.error().message, exit_failed);
  print(options.json ? reply->body : summary->text);
  return summary->ready ? exit_ok : exit_not_good;
}

int run_drain(const StatusOptions& options, bool pod_ends) {
  int exit_code = exit_ok;
  std::string path = "/drain";
  if (pod_ends) path.append("?").append(drain_pod_ends_query);
  if (!ask("drain", options, "POST", path, exit_code)) return exit_code;
  print("draining: no new requests; remora ends when those in flight are done\n");
  return exit_ok;
}

// Quiet until it is over: the socket may not be there yet.
int run_wait_started(const StatusOptions& options) {
  const std::string socket = socket_of(options);
  if (socket.empty()) {
    return fail("wait-started", "no socket named; write --admin SOCKET or --store DIR", exit_usage);
  }
  const SystemClock clock;
  const MonotonicTime end = clock.now() + std::chrono::seconds(options.limit_s);
  while (true) {
    const Result<AdminReply> reply = admin_request(socket, "GET", "/started", answer_wait);
    if (reply && reply->status == 200) return exit_ok;
    if (clock.now() >= end) {
      return fail("wait-started",
                  "not within " + std::to_string(options.limit_s) +
                      " s: " + (reply ? reply->body : reply.error().message),
                  reply ? exit_not_good : exit_failed);
    }
    ::poll(nullptr, 0, started_poll_ms);
  }
}

CLI::App* add_command(CLI::App& app, const char* name, const char* help, StatusOptions& options) {
  CLI::App* command = app.add_subcommand(name, help);
  command->add_option("--admin", options.socket, "Path of the admin socket (or $REMORA_ADMIN)");
  command->add_option("--store", options.store, "Snapshot store that holds admin.sock");
  return command;
}

}  // namespace

void add_status_commands(CLI::App& app, int& exit_code) {
  auto status = std::make_shared<StatusOptions>();
  CLI::App* status_command =
      add_command(app, "status", "Show how the agent and Remora are doing", *status);
  status_command->add_flag("--json", status->json, "Print the status as JSON");
  status_command->callback([status, &exit_code] { exit_code = run_status(*status); });
  auto wait = std::make_shared<StatusOptions>();
  CLI::App* wait_command = add_command(
      app, "wait-started", "Wait until the agents may begin: their state is whole", *wait);
  wait_command->add_option("--limit", wait->limit_s, "Seconds after which to give up")
      ->check(CLI::Range(0, started_limit_s_max))
      ->capture_default_str();
  wait_command->callback([wait, &exit_code] { exit_code = run_wait_started(*wait); });
  auto drain = std::make_shared<StatusOptions>();
  CLI::App* drain_command =
      add_command(app, "drain", "Finish the requests in flight, then stop the agent", *drain);
  auto pod_ends = std::make_shared<bool>(false);
  drain_command->add_flag("--pod-ends", *pod_ends,
                          "The pod is being deleted: ready until its last requests are drained, so "
                          "that a Service without another pod still has this one");
  drain_command->callback(
      [drain, pod_ends, &exit_code] { exit_code = run_drain(*drain, *pod_ends); });
}

}  // namespace remora
