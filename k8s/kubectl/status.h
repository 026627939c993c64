// What `kubectl remora status` says: one line for each pod that Remora rides along in. Pure.
#pragma once

#include <string>
#include <vector>

#include "k8s/inject/json_view.h"
#include "sidecar/base/clock.h"

namespace remora::k8s {

struct PodStatus {
  std::string namespace_name;
  std::string pod;
  std::string node;
  std::string version;  // of Remora, that injected it
  int ready_agents = 0;
  int agents = 0;
  std::string state;     // "Running", "CrashLoopBackOff", "Terminating"
  int64_t restarts = 0;  // of its agents
  std::string policy;    // HealingPolicy that applies; empty: none
  std::string hold;      // why nothing would be done now; empty: it would
  std::string fault;     // of its last Incident; empty: none is known
  std::string phase;     // of that Incident
  Duration fault_age{};  // since it was detected
};

struct StatusInput {
  std::vector<Json> pods;
  std::vector<Json> policies;
  std::vector<Json> incidents;
  WallTime now{};
};
struct StatusReport {
  std::vector<PodStatus> pods;
  std::vector<std::string> without;  // "namespace/name" of pods that ask for Remora and have none
};
StatusReport read_status(const StatusInput& input);

enum class Form { kTable, kWide, kJson };
std::string render_status(const StatusReport& report, Form form, bool all_namespaces);

}  // namespace remora::k8s
