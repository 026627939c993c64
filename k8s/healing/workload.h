// Deployments and StatefulSets as the step "roll_back" needs them: their revisions, and which of
// them a sick pod's workload may go back to. Read when the step is due, not watched. Pure; no
// object crashes it.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "k8s/healing/facts.h"

namespace remora::k8s {

// Of the workload: the pairs of revisions between which it was rolled back, "BAD>GOOD BAD>GOOD".
inline constexpr std::string_view rollbacks_annotation = "remora.dev/rolled-back";
inline constexpr std::string_view change_cause_annotation = "kubernetes.io/change-cause";
inline constexpr size_t rollbacks_kept_max = 10;
// Older facts are read again before anything is decided from them.
inline constexpr int workload_age_ms_max = 10'000;

struct Revision {
  std::string name{};  // of the ReplicaSet or ControllerRevision
  int64_t number = 0;
  std::optional<WallTime> created_at{};
  int64_t replicas = 0;        // of a ReplicaSet: that it is to have
  int64_t ready_replicas = 0;  // of a ReplicaSet
  std::string pod_template{};  // JSON
};

struct WorkloadFacts {
  std::string kind{};  // "Deployment", "StatefulSet"; empty: trouble says why there is none
  std::string name{};
  std::string uid{};
  int64_t generation = 0;
  bool paused = false;
  bool has_annotations = false;
  std::string current{};                                           // its newest revision's name
  std::vector<Revision> revisions{};                               // newest first
  std::vector<std::pair<std::string, std::string>> rolled_back{};  // {bad, good}, oldest first
  std::string trouble{};
  WallTime read_at{};

  std::string key() const { return kind + "/" + name; }
};

WorkloadFacts read_deployment(const Json& deployment, const Json& replica_sets);
WorkloadFacts read_stateful_set(const Json& stateful_set, const Json& revisions);

// Of a pod's workload: its ReplicaSet, or what a StatefulSet says of it.
std::string revision_of(const PodFacts& pod);
// KIND/NAME of what rolls the pod out, as far as the pod itself tells.
std::string workload_of(const PodFacts& pod);

struct RollbackChoice {
  const Revision* target = nullptr;  // null: why says why there is none
  bool already = false;              // the workload has left the pod's revision by itself
  std::string why{};
};
// within: how long a revision may have been there to be what is wrong. in_service_min: how long the
// one before it must have been there to have proved itself. sick: revisions whose pods have had
// faults, too.
RollbackChoice choose_rollback(const WorkloadFacts& workload, const PodFacts& pod,
                               const std::vector<std::string>& sick, Duration within,
                               Duration in_service_min, WallTime now);

// A JSON patch (RFC 6902) that takes the workload to that revision, or fails where it is not the
// one that was read any more.
std::string rollback_patch(const WorkloadFacts& workload, const Revision& target,
                           const std::string& from, const std::string& cause);

}  // namespace remora::k8s
