// Asking the agent how it is, as Kubernetes does: startup, liveness and readiness probes with
// core/v1 Probe's fields, defaults and meaning.
//
// - The startup probe holds the others back until it has succeeded once.
// - initial_delay counts from the agent's start; then one attempt a period. Attempts of one probe
//   never overlap: one that takes longer than the period delays the next.
// - A probe changes its mind after success_threshold (failure_threshold) attempts in a row.
// Liveness
//   begins as healthy, startup and readiness as not.
// - Without a startup probe the agent counts as started at once; without a readiness probe it is
//   ready as soon as it has started.
//
// Loop thread only. The sink is called from the loop, never from inside start(), and may call
// stop() or destroy the Prober.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "sidecar/health/observation.h"
#include "sidecar/net/loop.h"
#include "sidecar/net/socket_address.h"

namespace remora {

struct HttpProbe {
  SocketAddress address;
  std::string path = "/";  // with query
  std::string host;        // Host field; empty: the address
  std::vector<std::pair<std::string, std::string>> headers;
  // HTTPS; whose certificate it is, is not checked, as by the kubelet.
  bool tls = false;
};
struct TcpProbe {
  SocketAddress address;
};
struct ExecProbe {
  std::vector<std::string> command;      // no shell; never empty
  std::string working_dir;               // empty: Remora's own
  std::vector<std::string> environment;  // "NAME=value", over Remora's own
};
struct GrpcProbe {
  SocketAddress address;
  std::string service;  // of grpc.health.v1.HealthCheckRequest; may be empty
};
using ProbeAction = std::variant<HttpProbe, TcpProbe, ExecProbe, GrpcProbe>;

struct ProbeSpec {
  ProbeAction action;
  Duration initial_delay{0};
  Duration period = std::chrono::seconds(10);
  Duration timeout = std::chrono::seconds(1);
  uint32_t success_threshold = 1;  // 1 for startup and liveness
  uint32_t failure_threshold = 3;
};

struct ProbeSet {
  std::optional<ProbeSpec> startup;
  std::optional<ProbeSpec> liveness;
  std::optional<ProbeSpec> readiness;
};

// Bytes of an answer (HTTP body, command output) that are looked at; the rest is dropped.
inline constexpr size_t probe_answer_bytes_max = 10 * 1024;
// Bytes of it that get into a reason.
inline constexpr size_t probe_reason_bytes_max = 200;

// One attempt under way; destroying it abandons it (a command's process group is killed).
class ProbeAttempt {
 public:
  virtual ~ProbeAttempt() = default;
};
struct ProbeAnswer {
  bool ok = false;
  bool timed_out = false;
  std::string reason;  // empty when ok
};
using ProbeDone = std::move_only_function<void(ProbeAnswer)>;
// Starts one attempt; done is called once from the loop, never from inside the call, and not after
// the attempt has been destroyed. done may destroy the attempt.
[[nodiscard]] std::unique_ptr<ProbeAttempt> start_probe(Loop& loop, const ProbeAction& action,
                                                        Duration timeout, ProbeDone done);

class Prober {
 public:
  using Sink = std::move_only_function<void(const ProbeResult&)>;
  // How attempts are made; start_probe unless a test says otherwise.
  using Starter = std::move_only_function<std::unique_ptr<ProbeAttempt>(
      Loop&, const ProbeAction&, Duration timeout, ProbeDone)>;

  Prober(Loop& loop, ProbeSet probes, Sink sink, Starter starter = start_probe);
  ~Prober();
  Prober(const Prober&) = delete;
  Prober& operator=(const Prober&) = delete;

  // The agent has just been started: every probe begins afresh.
  void start();
  // The agent is gone, or being stopped: no more attempts, nothing is ready.
  void stop();
  // Other probes from now on (a reload). While running, those whose spec is given begin afresh,
  // without a new startup phase once the agent has started.
  void set_probes(ProbeSet probes);

  bool running() const { return running_; }
  bool started() const { return started_; }  // startup has succeeded, or there is none
  bool ready() const;                        // started, and readiness healthy or absent
  bool live() const;                         // liveness healthy or absent

 private:
  class Track;
  void on_result(ProbeKind kind, const ProbeResult& result);
  void begin_after_startup();

  Loop& loop_;
  ProbeSet probes_;
  std::shared_ptr<Sink> sink_;
  Starter starter_;
  bool running_ = false;
  bool started_ = false;
  MonotonicTime started_at_{};
  std::array<std::unique_ptr<Track>, 3> tracks_;
};

}  // namespace remora
