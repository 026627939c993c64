// The parts of a plan that concern one Incident. Pure; used by plan.cc only.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "k8s/healing/plan.h"

namespace remora::k8s {

// What the pods of one policy allow at this moment.
struct PolicyState {
  const PolicyRecord* policy = nullptr;
  int pods = 0;
  int ready = 0;
  int outdated = 0;
  int open = 0;
  int steps_in_window = 0;
  std::string hold{};   // why nothing may be done; empty: something may
  std::string crowd{};  // the same for steps that concern one pod: too many are sick at once
};

// What has been taken of the budgets that policies share, this plan's own steps included.
struct SharedBudgets {
  std::vector<WallTime> of_namespace{};
  std::vector<WallTime> of_fleet{};
};

std::vector<std::string> ladder_of(const v1alpha1::HealingPolicySpec& spec, FaultKind kind);
Duration duration_of(const google::protobuf::Duration& duration);

// Pods of the owner of one that is gone.
struct Replacements {
  std::vector<const PodFacts*> pods;
  std::set<std::string>* taken = nullptr;  // UIDs: each ends one Incident only
};

// What to do about an Incident that is open; state null: no policy applies. pod null: it is gone.
// Adds its actions to plan, and what it uses of the budgets to state and shared.
void plan_incident(const IncidentRecord& incident, const PodFacts* pod,
                   const std::optional<PodFault>& fault, const Replacements& replacements,
                   PolicyState* state, SharedBudgets& shared, const NamespaceView& view,
                   NamespacePlan& plan);

}  // namespace remora::k8s
