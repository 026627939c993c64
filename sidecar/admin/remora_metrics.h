// Every series that Remora exports, by name: the app records here, the admin server renders the
// registry. Loop thread only. Knows nothing of healing or the proxy: names and numbers only.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "sidecar/admin/metrics.h"
#include "sidecar/base/clock.h"

namespace remora {

// Of one listener of one agent, labelled {agent="main",listener="inbound"}.
class ListenerMetrics {
 public:
  ListenerMetrics(MetricRegistry& registry, std::string_view agent, std::string_view listener);

  // One finished request. status 0: the caller left before there was a response.
  void on_request_finished(int status, Duration duration) {
    const size_t code_class = status >= 100 && status < 600 ? static_cast<size_t>(status) / 100 : 0;
    requests_[code_class]->add();
    durations_[code_class]->observe(duration);
  }

  Gauge& in_flight;
  Gauge& held;
  Counter& replayed;
  Counter& rejected;  // 503 because a limit was reached
  Gauge& connections;
  Gauge& upstream_connections;
  Counter& connect_failures;
  Counter& bytes_to_agent;
  Counter& bytes_from_agent;

 private:
  // By code / 100; 0: none.
  std::array<Counter*, 6> requests_{};
  std::array<Histogram*, 6> durations_{};
};

enum class SnapshotOutcome : uint8_t { kStored, kUnchanged, kFailed };
inline constexpr size_t snapshot_outcome_count = 3;

// The parts of one healing, in seconds that add up to the total; absent: not reached.
struct HealingTimes {
  std::optional<Duration> detect{};
  std::optional<Duration> decide{};
  std::optional<Duration> act{};
  std::optional<Duration> ready{};
  std::optional<Duration> total{};
};

// Of one agent, labelled {agent="main"}.
class AgentMetrics {
 public:
  // fault_kinds: all names that count_fault will see.
  AgentMetrics(MetricRegistry& registry, std::string_view agent,
               std::span<const std::string_view> fault_kinds);

  // Names outside fault_kinds are a bug and abort.
  void count_fault(std::string_view kind);
  void observe_healing(const HealingTimes& times);
  // duration: of the whole snapshot; stopped: how long the agent stood still for it.
  void count_snapshot(SnapshotOutcome outcome, Duration duration, Duration stopped);

  Counter& restarts;
  Gauge& up;     // 1 while the agent's process runs
  Gauge& ready;  // 1 while requests are sent to it
  Gauge& generation;
  Gauge& incident_open;  // 1 while a fault is being healed
  Gauge& snapshots_kept;
  Gauge& snapshot_stored_bytes;    // its chunks
  Gauge& store_taken_over;         // 1 once another one writes into its snapshot store
  Gauge& snapshot_last_timestamp;  // Unix time in seconds; 0: none yet
 private:
  std::vector<std::pair<std::string_view, Counter*>> faults_;
  std::array<Histogram*, 5> healing_{};  // detect, decide, act, ready, total
  std::array<Counter*, snapshot_outcome_count> snapshots_{};
  Histogram& snapshot_duration_;
  Histogram& snapshot_stopped_;
};

// Of Remora itself.
class AppMetrics {
 public:
  AppMetrics(MetricRegistry& registry, std::string_view version);

  Counter& config_reloads_good;
  Counter& config_reloads_bad;
  Gauge& config_last_reload_good;  // 0 once one was refused
  Gauge& outbound_connections;
  Counter& outbound_captured;
  Counter& outbound_proxied;
};

// The process_* series that every Prometheus client exports, read from /proc/self on each render.
void add_process_metrics(MetricRegistry& registry);

}  // namespace remora
