// What the admin server shows and starts, as functions that the app gives it: so it knows nothing
// of healing, snapshots or the proxy. All are called on the loop's thread; none may block.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/base/error.h"

namespace remora {

struct AdminReadiness {
  bool ready = false;
  std::vector<std::string> reasons;  // why not; empty when ready
};

struct AdminIncident {
  std::string id;
  std::string fault;   // the kind's name
  std::string status;  // "open", "closed"
  std::string closed_reason;
  std::string summary;
  int64_t detected_at_unix_ns = 0;
  std::optional<double> mttr_s;
};

struct AdminSnapshots {
  uint64_t kept = 0;
  std::string last_id;          // empty: none yet
  int64_t last_at_unix_ns = 0;  // taken or found unchanged
  std::string last_outcome;     // "stored", "unchanged", "failed"
  std::string last_error;       // when it failed
  std::string store{};          // its directory
};

struct AdminAgent {
  std::string name;
  std::string phase;  // of its supervisor: "serving", "backing_off", …
  bool ready = false;
  std::string waits_for;   // "the runtime to start container agent, for 3.2 s"; empty: for nothing
  std::string held_fault;  // what is not acted upon because healing is paused; empty: nothing
  int64_t pid = 0;         // 0: none runs
  uint64_t generation = 0;
  double uptime_s = 0;
  std::string listen;  // "127.0.0.1:8080"; empty: nothing is proxied
  uint64_t requests_in_flight = 0;
  uint64_t requests_held = 0;
  uint64_t requests_finished = 0;
  uint64_t requests_replayed = 0;
  uint64_t restarts = 0;
  std::optional<AdminIncident> last_incident;
  std::optional<AdminSnapshots> snapshots;  // absent: no store
};

// What became of the configuration since the start.
struct AdminConfig {
  int64_t taken_at_unix_ns = 0;  // the last reload that was; 0: none yet
  std::string refused;           // why the last one was not; empty: it was
  int64_t refused_at_unix_ns = 0;
  std::string for_next_start;  // keys that have changed and wait for it, "a, b"
};

// The body of GET /status.
struct AdminStatus {
  std::string version;
  AdminReadiness readiness;  // of all agents together
  int64_t remora_pid = 0;
  double remora_uptime_s = 0;
  AdminConfig config;
  std::vector<AdminAgent> agents;  // at least one
};

// The answer to what takes time: JSON text, or an error. Call it on the loop's thread, at most
// once; later than the connection's end is fine.
using AdminDone = std::move_only_function<void(Result<std::string>)>;

// Of POST /drain.
inline constexpr std::string_view drain_pod_ends_query = "pod=ends";

struct AdminSource {
  std::move_only_function<AdminReadiness()> readiness;
  // State checked and restored: the agents may begin.
  std::move_only_function<AdminReadiness()> started;
  std::move_only_function<AdminStatus()> status;
  std::move_only_function<std::string()> metrics;             // MetricRegistry::render()
  std::move_only_function<std::string(bool as_json)> config;  // effective, secrets redacted
  // Stop taking requests and end, as SIGTERM does. Returns at once.
  // pod_ends: it is being deleted, and Kubernetes sends callers elsewhere by itself.
  std::move_only_function<void(bool pod_ends)> drain;
  // May be left empty: answered 404 then.
  // Takes one now and describes it; agent empty: of the only one.
  std::move_only_function<void(std::string_view agent, AdminDone)> snapshot;
  std::move_only_function<void(AdminDone)> incidents;  // JSON array, oldest first
};

}  // namespace remora
