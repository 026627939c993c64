// What is to be done in one namespace, decided from what is seen of it: a pure function, looked at
// again after each change. Everything that must survive a restart of the operator stands in the
// Incidents: a step is written there before it is done (state "intended"), and one that is found so
// is done, again if need be; doing it twice has no second effect.
//
// Promises, whatever is seen:
// - nothing is done to a pod while too many pods of its policy are sick, or its budget is used up,
//   or its policy or itself is paused, or what is seen may be out of date;
// - when many nodes are lost at once, it is the control plane that is cut off, and none is left;
// - a pod that nobody would make again is never taken away.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "k8s/healing/facts.h"
#include "k8s/resources/resources.pb.h"

namespace remora::k8s {

// While something is open, its namespace is looked at again after this.
inline constexpr int heal_look_again_ms = 5'000;
inline constexpr int evidence_lines_max = 20;
// Of all nodes, as for Kubernetes' own node controller (unhealthy-zone-threshold).
inline constexpr int nodes_lost_percent_max = 55;

struct PolicyRecord {
  std::string name;
  std::string resource_version;
  int64_t generation = 0;
  v1alpha1::HealingPolicySpec spec;
  v1alpha1::HealingPolicyStatus status;
};

struct IncidentRecord {
  std::string name;
  std::string uid;
  std::string resource_version;
  v1alpha1::IncidentSpec spec;
  v1alpha1::IncidentStatus status;
};

// Since when each policy's pods have been healthy enough; absent: they are, or nobody has looked.
struct PolicyMemory {
  std::optional<WallTime> sick_until{};  // minHealthyPercent was last not reached
};

struct NamespaceView {
  std::string name;
  const std::map<std::string, PodFacts>* pods = nullptr;             // by name
  const std::map<std::string, NodeFacts>* nodes = nullptr;           // by name
  const std::map<std::string, IncidentRecord>* incidents = nullptr;  // by name
  std::vector<PolicyRecord> policies;                                // by name
  std::string out_of_date;  // why what is seen may be; empty: it isn't
  WallTime now{};
};

struct OpenIncident {
  std::string name;
  v1alpha1::IncidentSpec spec;
};
struct UpdateIncident {
  IncidentRecord incident;  // as it is to be
  std::string reason;       // of the Event that tells of it; empty: none
  std::string message;
};
struct EvictPod {
  IncidentRecord incident;  // its last step is intended
  bool pod_ready = false;
  std::string pod_version;
};
struct DeleteIncident {
  std::string name;
  std::string uid;
};
struct UpdatePolicy {
  std::string name;
  v1alpha1::HealingPolicyStatus status;
};
using HealAction =
    std::variant<OpenIncident, UpdateIncident, EvictPod, DeleteIncident, UpdatePolicy>;

struct NamespacePlan {
  std::vector<HealAction> actions;
  std::optional<Duration> look_again{};
};

// memory is carried from one look at this namespace to the next, by policy name.
NamespacePlan plan_namespace(const NamespaceView& view,
                             std::map<std::string, PolicyMemory>& memory);

enum class EvictOutcome { kEvicted, kGone, kRefused, kFailed };
// The Incident after its intended eviction has been tried.
UpdateIncident after_eviction(IncidentRecord incident, EvictOutcome outcome,
                              const std::string& message, WallTime now);

}  // namespace remora::k8s
