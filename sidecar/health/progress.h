// Takes readings of the agent at an interval and tells the sink. Cheap while the agent is idle:
// lock owners are read only while something is in flight or liveness fails.
//
// Loop thread only. Readings are short; once one has taken longer than reading_budget_us_max
// (many threads, a slow /proc) they move to a worker thread, and come back through the loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "sidecar/health/observation.h"
#include "sidecar/net/loop.h"

namespace remora {

// What the proxy knows of the requests in the agent. Called on the loop's thread, once a sample.
struct InFlight {
  uint64_t count = 0;             // owed an answer by the agent, streams left out
  Duration oldest_age{};          // zero when there is none
  std::string oldest_request;     // "POST /invoke", no query
  uint64_t requests_started = 0;  // total handed to the agent
  uint64_t bytes_from_agent = 0;  // total
  uint64_t rejected = 0;          // total turned away by limits
  uint64_t in_flight_max = 0;     // that limit
};
using InFlightSource = std::move_only_function<InFlight()>;

inline constexpr int64_t reading_budget_us_max = 5000;

struct ProgressOptions {
  Duration sample_interval = std::chrono::seconds(1);
  // Bounds the interval: a window always holds at least four samples.
  Duration hang_window = std::chrono::seconds(30);
  bool deadlock = true;
  std::string proc_root = "/proc";
  std::string cgroup_root = "/sys/fs/cgroup";
};

class ProgressSampler {
 public:
  using Sink = std::move_only_function<void(const Observation&)>;

  ProgressSampler(Loop& loop, ProgressOptions options, InFlightSource in_flight, Sink sink);
  ~ProgressSampler();
  ProgressSampler(const ProgressSampler&) = delete;
  ProgressSampler& operator=(const ProgressSampler&) = delete;

  // The agent runs: sample it from now on. Ends what was sampled before.
  void start(uint64_t generation, pid_t pid);
  void stop();
  // While true, lock owners are read even with nothing in flight.
  void set_suspicious(bool suspicious);
  // From the next sample on (a reload).
  void set_options(ProgressOptions options);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace remora
