// What single steps may do to a pod, and what is said of it. Pure; used by ladder.cc and plan.cc.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "k8s/healing/plan.h"

namespace remora::k8s {

// What keeps this pod from ever being taken away; empty: nothing.
std::string why_stays(const PodFacts& pod);
// What keeps it from being made anew without anything of the old one; empty: nothing.
std::string why_not_afresh(const PodFacts& pod);

// Of the Event that tells that a step which disturbs something was written down.
std::string begun_reason(const std::string& step);

struct MemoryPlan {
  std::string container;
  int64_t from_bytes = 0;
  int64_t to_bytes = 0;
  std::optional<int64_t> request_bytes{};  // follows the limit where both were the same
  std::string why_not{};                   // empty: it can be raised
};
MemoryPlan plan_memory(const PodFacts& pod, const std::string& container,
                       const v1alpha1::HealingPolicySpec& spec);

// Revisions whose pods have had faults of their own, as the Incidents know.
std::vector<std::string> sick_revisions(const std::map<std::string, IncidentRecord>& incidents);

bool was_rolled_back(const WorkloadFacts& workload, const std::string& from, const std::string& to);

// "sha256:…" of each of its containers.
std::string images_of(const PodFacts& pod);

}  // namespace remora::k8s
