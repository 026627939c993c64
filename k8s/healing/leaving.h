// Nodes that pods leave, by choice or by fault: a last snapshot before a node is emptied, and which
// nodes a workload's new pods rather keep away from afterwards. Pure; used by plan.cc only.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "k8s/healing/plan.h"

namespace remora::k8s {

// Those that end last are kept.
inline constexpr size_t avoided_nodes_max = 32;

// What agent is asked for because its node is about to be emptied; nothing: nothing now. Once for
// each time that a node is cordoned, and again after another request, such as a restart: what was
// kept is from before it.
std::optional<AskAgent> ask_before_leaving(const PodFacts& pod, const NodeFacts& node,
                                           const AgentFacts& agent, WallTime now);

// Of the pods that were, or are about to be, moved away from a node in the name of this policy.
std::vector<v1alpha1::AvoidedNode> avoided_nodes(
    const std::map<std::string, IncidentRecord>& incidents, const std::string& policy,
    Duration avoid_for, WallTime now);

// Replicas of the operator that answer for new pods hear of it by the policy's status: how long a
// pod is not taken away for want of that.
inline constexpr int avoid_known_wait_ms_max = 3'000;
// Whether that status says so of this pod's node.
bool is_avoided(const v1alpha1::HealingPolicyStatus& status, const PodFacts& pod);

}  // namespace remora::k8s
