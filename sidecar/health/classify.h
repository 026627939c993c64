// From observations to a diagnosis: a pure fold. The Classifier knows only what it has been told,
// reads no clock, does no I/O, and gives the same faults for the same observations every time.
//
// What it promises
// - Idle with nothing in flight is never a hang.
// - "Deadlock" only for a cycle proven twice: same threads, same locks, and no thread of it has run
//   in between. Everything else that looks like one is a hang once the hang window has passed.
// - An agent that waits for something outside (an outbound call pending), that is short of CPU, or
//   that is busy, is not restarted for a failed liveness probe before the hang window has passed.
// - Each fault is reported once per generation until it clears; active() says which are open.
// - Every fault carries evidence that a person can check.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "sidecar/health/fault.h"
#include "sidecar/health/observation.h"

namespace remora {

struct DetectionPolicy {
  // A request in the agent for this long without any progress is a hang (detection.hangWindow).
  Duration hang_window = std::chrono::seconds(30);
  bool deadlock = true;  // detection.deadlock
  // Runtimes tick (garbage collectors, schedulers, heartbeats): up to this much CPU per second of
  // the window counts as none used.
  Duration background_cpu_per_second_max = std::chrono::milliseconds(20);
  // A hung agent may still accept and park new requests and probes: CPU that each may cost without
  // counting as progress.
  Duration cpu_per_arrival_max = std::chrono::milliseconds(2);
  // Held back by its CPU quota, or waiting for a free CPU, for this share of the last seconds: what
  // it fails to answer then is overload.
  double starved_share_min = 0.10;
  // Using this share of the CPUs that it may use is saturation.
  double saturated_share_min = 0.90;
  // Overload is over once nothing has been turned away for this long.
  Duration overload_clear_after = std::chrono::seconds(10);
};

class Classifier {
 public:
  explicit Classifier(DetectionPolicy policy = {}) : policy_(policy) {}

  // Feeds one observation, in order of time. At most one fault comes of each.
  std::optional<Fault> observe(const Observation& observation);

  // Reported and not cleared yet.
  bool active(FaultKind kind) const { return active_[static_cast<size_t>(kind)]; }
  // What the agent seems to do right now, for `status`: "idle", "busy", "waiting", "stalled",
  // "starved", "gone"; "unknown" before the first sample.
  std::string_view activity() const;
  // Takes effect from the next observation on (a reload).
  void set_policy(const DetectionPolicy& policy) { policy_ = policy; }
  // What could not be seen at the last sample; empty: everything was.
  const std::vector<std::string>& degraded() const { return degraded_; }

 private:
  // The growing counters of one sample: what a window is measured between.
  struct Mark {
    MonotonicTime at;
    uint64_t cpu_ns = 0;
    uint64_t runqueue_wait_ns = 0;
    uint64_t bytes_from_agent = 0;
    uint64_t io_bytes = 0;
    uint64_t arrivals = 0;  // requests and probes
    Duration throttled{};
    uint64_t oom_kills = 0;
  };
  // Marks kept: the window is thinned to this resolution whatever the sampling interval is.
  static constexpr size_t marks_max = 256;
  // A window without this many samples in it proves nothing.
  static constexpr size_t window_samples_min = 3;
  // Over which busy, saturated and starved are measured.
  static constexpr Duration recent_window = std::chrono::seconds(10);

  struct Usage {  // between two marks
    Duration span{};
    Duration cpu{};
    Duration cpu_allowed{};
    Duration runqueue_wait{};
    Duration throttled{};
    uint64_t bytes = 0;
    size_t samples = 0;
  };

  std::optional<Fault> on(MonotonicTime at, const AgentStarted& started);
  std::optional<Fault> on(MonotonicTime at, const AgentExited& exited);
  std::optional<Fault> on(MonotonicTime at, const ProbeResult& result);
  std::optional<Fault> on(MonotonicTime at, const ProgressSample& sample);
  std::optional<Fault> on(MonotonicTime at, const DeadlockSample& sample);
  std::optional<Fault> on(MonotonicTime at, const OverloadSample& sample);
  std::optional<Fault> on(MonotonicTime at, const StateChecked& checked);

  void remember(MonotonicTime at, const ProgressSample& sample);
  Usage usage_since(MonotonicTime from) const;
  bool is_starved(const Usage& usage) const;
  bool is_saturated(const Usage& usage) const;
  bool is_working(const Usage& usage) const;
  // A pending call that can explain why the oldest request waits.
  const OutboundCall* explaining_call() const;

  std::optional<Fault> judge_progress(MonotonicTime at);
  std::optional<Fault> judge_probe(MonotonicTime at, ProbeKind kind);
  std::optional<Fault> raise(Fault fault);
  Fault stalled_fault(MonotonicTime at, const Usage& usage) const;
  Fault dependency_fault(MonotonicTime at, const OutboundCall* call) const;
  Fault starved_fault(MonotonicTime at, const Usage& usage) const;
  void add_progress_evidence(std::vector<EvidenceItem>& evidence) const;
  bool out_of_descriptors() const;
  void clear(FaultKind kind) { active_[static_cast<size_t>(kind)] = false; }
  void forget_agent();

  DetectionPolicy policy_;
  std::array<bool, kFaultKindCount> active_{};
  uint64_t generation_ = 0;
  bool running_ = false;
  MonotonicTime started_at_{};

  struct ProbeState {
    bool failing = false;  // the last attempt failed
    bool past_threshold = false;
    bool sampled = false;  // a sample came after it went past its threshold
    uint32_t explained =
        0;  // of its failures in a row: those up to the last sample with a call pending
    MonotonicTime failing_since{};
    ProbeResult last;
  };
  std::array<ProbeState, 3> probes_;

  std::deque<Mark> marks_;
  std::optional<ProgressSample> last_sample_;
  MonotonicTime last_sample_at_{};
  MonotonicTime last_explained_at_{};  // last sample with a call pending
  MonotonicTime last_idle_at_{};       // last sample with nothing in flight
  uint64_t probe_arrivals_ = 0;
  std::vector<std::string> degraded_;

  std::optional<DeadlockSample> last_deadlock_;
  MonotonicTime deadlock_first_seen_{};

  bool rejected_known_ = false;
  uint64_t rejected_ = 0;
  MonotonicTime last_rejection_at_{};
  bool overload_by_cpu_ = false;
};

}  // namespace remora
