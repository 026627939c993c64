// What is to be done in one namespace, decided from what is seen of it: a pure function, looked at
// again after each change. Everything that must survive a restart of the operator stands in the
// Incidents: a step is written there before it is done (state "intended"), and one that is found so
// is done, again if need be; doing it twice has no second effect.
//
// Promises, whatever is seen:
// - nothing is done to a pod while too many pods of its policy are sick, or its budget is used up,
//   or that of its namespace or of the fleet, or its policy or itself is paused, or what is seen
//   may be out of date;
// - when many nodes are lost at once, it is the control plane that is cut off, and none is left;
// - a pod that nobody would make again is never taken away;
// - a workload is never rolled back twice between the same two revisions.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "config/annotations.h"
#include "k8s/healing/budgets.h"
#include "k8s/healing/claims.h"
#include "k8s/healing/facts.h"
#include "k8s/healing/workload.h"
#include "k8s/resources/resources.pb.h"

namespace remora::k8s {

// While something is open, its namespace is looked at again after this.
inline constexpr int heal_look_again_ms = 5'000;
inline constexpr int evidence_lines_max = 20;
// Somebody may have changed or deleted it.
inline constexpr int drain_keep_again_ms = 600'000;
// Of all nodes, as for Kubernetes' own node controller (unhealthy-zone-threshold).
inline constexpr int nodes_lost_percent_max = 55;
// They come back one by one: each counts as lost for so long after it is Ready again, or the last
// ones would be taken for nodes that are lost by themselves.
inline constexpr int nodes_settle_ms = 60'000;

struct PolicyRecord {
  std::string name;
  std::string uid;
  std::string resource_version;
  int64_t generation = 0;
  v1alpha1::HealingPolicySpec spec;
  v1alpha1::HealingPolicyStatus status;
  // What it sets in its pods; absent: it can't be used.
  std::optional<config::PolicyValues> values{};
};

// What a sidecar has said of the settings that it was told.
struct ToldSettings {
  std::string policy;
  int64_t generation = 0;
  bool all_in_force = false;
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
  std::optional<WallTime> sick_until{};     // minHealthyPercent was last not reached
  std::optional<WallTime> drain_kept_at{};  // its PodDisruptionBudget was last written
  int64_t drain_generation = 0;             // from this state of the policy
  bool drain_ended = false;                 // it is not wanted, and known to be gone
};

// What a sidecar tells of its own pod.
struct SidecarReport {
  v1alpha1::PodReference pod;
  std::string container;
  std::string detected_at;
  v1alpha1::SidecarHealing healing;
};

// An agent whose sidecar is connected, as its AgentSnapshot shows it.
struct AgentFacts {
  std::string name;  // of the AgentSnapshot
  std::string pod_uid;
  std::string container{};
  bool takes_snapshots = false;
  std::string last_request;    // its id; empty: none yet
  bool is_busy = false;        // the last request is not over
  bool last_failed = false;    // it is over
  std::string last_message{};  // outcome in words
};

struct NamespaceView {
  std::string name;
  const std::map<std::string, PodFacts>* pods = nullptr;             // by name
  const std::map<std::string, NodeFacts>* nodes = nullptr;           // by name
  const std::map<std::string, IncidentRecord>* incidents = nullptr;  // by name
  std::vector<PolicyRecord> policies;                                // by name
  // By the owner of their pods, as PodFacts::owner() says it: what was read on demand.
  const std::map<std::string, WorkloadFacts>* workloads = nullptr;
  // By the UID of the pod: what was read on demand.
  const std::map<std::string, PodEvents>* events = nullptr;
  // PersistentVolumeClaims by name: what was read on demand.
  const std::map<std::string, ClaimFacts>* claims = nullptr;
  std::vector<AgentFacts> agents;
  BudgetRule namespace_budget{};
  BudgetRule fleet_budget{};
  std::vector<WallTime> fleet_steps;  // of all namespaces, this one included
  const std::map<std::string, SidecarReport>* reports = nullptr;  // by key; null: none
  const std::map<std::string, ToldSettings>* told = nullptr;      // by the pod's UID; null: none
  std::string out_of_date;  // why what is seen may be; empty: it isn't
  WallTime now{};
};

struct OpenIncident {
  std::string name;
  v1alpha1::IncidentSpec spec;
  std::string reason = "RemoraFault";  // of the Event that tells of it
};
struct UpdateIncident {
  IncidentRecord incident;  // as it is to be
  std::string reason;       // of the Event that tells of it; empty: none
  std::string message;
};
// The last step of the Incident of each of these is intended.
struct EvictPod {
  IncidentRecord incident;
  bool pod_ready = false;
  std::string pod_version;
  // Its node is lost: its identity is fenced first, for it can't be asked to let go.
  bool is_cut_off = false;
};
struct RollBack {
  IncidentRecord incident;
  WorkloadFacts workload;
  Revision target;
  std::string owner;  // of the pod: what is known of its workload is out of date afterwards
  std::string from;
};
struct ResizePod {
  IncidentRecord incident;
  std::string container;
  int64_t limit_bytes = 0;
  std::optional<int64_t> request_bytes{};  // where it must follow the limit
};
// Nothing is decided before it has been read.
struct ReadWorkload {
  std::string owner_kind;
  std::string owner_name;

  std::string owner() const { return owner_kind + "/" + owner_name; }
};
struct ReadPodEvents {
  std::string pod;
  std::string uid;
};
struct ReadClaims {
  std::vector<std::string> names;
};
// Written into the agent's AgentSnapshot as a request.
struct AskAgent {
  std::string agent;  // name of the AgentSnapshot
  std::string pod;
  std::string pod_uid;
  std::string id;      // of the request
  std::string action;  // AgentRequest.action
  std::string why;
};
// The PodDisruptionBudget of a policy.
struct KeepDrain {
  std::string policy;
  std::string policy_uid;
  std::string min_available;
  v1alpha1::Selector selector;
};
struct EndDrain {
  std::string policy;
  std::string budget;  // its name
};
struct DeleteIncident {
  std::string name;
  std::string uid;
};
struct UpdatePolicy {
  std::string name;
  v1alpha1::HealingPolicyStatus status;
};
using HealAction = std::variant<OpenIncident, UpdateIncident, EvictPod, RollBack, ResizePod,
                                ReadWorkload, ReadPodEvents, ReadClaims, AskAgent, KeepDrain,
                                EndDrain, DeleteIncident, UpdatePolicy>;

struct NamespacePlan {
  std::vector<HealAction> actions;
  std::vector<std::string> kept{};  // keys of reports that stand in an Incident
  std::optional<Duration> look_again{};
};

// memory is carried from one look at this namespace to the next, by policy name.
NamespacePlan plan_namespace(const NamespaceView& view,
                             std::map<std::string, PolicyMemory>& memory);

// prefix, as far as it fits, and a hash of text: the same in every build and process.
std::string name_with_hash(const std::string& prefix, const std::string& text);

// Whether the pod has other settings than the policy would give it now. told: by its sidecar; null:
// it has said nothing.
bool is_outdated(const PodFacts& pod, const PolicyRecord& policy, const ToldSettings* told);

// Of the PodDisruptionBudget of a policy.
std::string drain_name(const std::string& policy);

// Steps that disturb a pod or its workload, which budgets count.
bool disturbs(const std::string& step);

enum class StepOutcome {
  kDone,
  kHeld,        // not now: it stays intended
  kImpossible,  // never: the next step's turn
};
// The Incident after its intended step has been tried.
UpdateIncident after_step(IncidentRecord incident, StepOutcome outcome, const std::string& message,
                          WallTime now);

}  // namespace remora::k8s
