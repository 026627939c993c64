// What is to be done about one Eviction (lifecycle.k8s.io/v1alpha1, KEP-4563, alpha in Kubernetes
// 1.37): pure, from what it says and from what is known of the pod's agents.
//
// Whoever wants a pod gone writes an EvictionRequest; Kubernetes makes an Eviction of it and calls
// the pod's responders in the order of their priorities. Remora is one: when it is its turn it has
// a last snapshot taken, and then says that it has completed. It evicts nobody: that is for the
// responder after it, in the end Kubernetes' own, which heeds disruption budgets.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "k8s/healing/facts.h"
#include "k8s/healing/plan.h"
#include "k8s/watch/object.h"

namespace remora::k8s {

// As pods name it in spec.evictionResponders.
inline constexpr std::string_view eviction_responder = "remora.dev/snapshot";
// Before the controller of the pod, whose priority is to be 10,000, and Kubernetes' own at 100.
inline constexpr int eviction_priority = 20'000;
// The API asks for no more than one in 20 s, and passes over whoever is silent for 20 minutes.
inline constexpr int eviction_heartbeat_ms = 60'000;
inline constexpr int eviction_look_again_ms = 2'000;
// A snapshot that takes longer is not waited for: whoever evicts has a deadline, too.
inline constexpr int eviction_wait_ms_max = 300'000;

struct EvictionRecord {
  std::string namespace_name;
  std::string name;
  std::string uid;
  std::string pod;
  std::string pod_uid;
  bool is_our_turn = false;                // Active, and not completed
  std::optional<WallTime> started_at{};    // of our turn
  std::optional<WallTime> heartbeat_at{};  // our last one
};
// Nothing: no pod's, or Remora is none of its responders.
std::optional<EvictionRecord> read_eviction(const Object& eviction);
// Takes away what read_eviction() doesn't look at.
void trim_eviction(Json& eviction);

struct EvictionPlan {
  std::vector<AskAgent> ask;
  // An apply of our entry in status.responders; empty: it is right as it is.
  std::string status;
  std::optional<Duration> look_again{};
};
// agents: the connected ones of its namespace.
EvictionPlan plan_eviction(const EvictionRecord& record, const std::vector<AgentFacts>& agents,
                           WallTime now);

}  // namespace remora::k8s
