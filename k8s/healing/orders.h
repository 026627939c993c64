// Steps that a pod's own sidecar carries out, because an operator may not look into a pod: restart
// and restore. They are requests in the AgentSnapshots of the pod's agents, as people write them.
// Pure; used by ladder.cc and departed.cc.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "k8s/healing/plan.h"

namespace remora::k8s {

bool is_order(const std::string& step);

// What keeps the step from being ordered at all; empty: nothing.
std::string why_not_ordered(const IncidentRecord& incident, const PodFacts& pod,
                            const PodFault& fault, const std::string& step,
                            const std::vector<AgentFacts>& agents);

// How far the last step of the Incident, which is an order, is.
struct OrderState {
  bool is_asked = false;        // of one agent at least, as far as is known
  std::vector<AskAgent> ask{};  // what is left to ask, under the same ids at every look
  // Absent: not all of them have answered.
  std::optional<StepOutcome> outcome{};
  std::string message{};
};
OrderState order_state(const IncidentRecord& incident, const PodFacts& pod,
                       const std::vector<AgentFacts>& agents);

}  // namespace remora::k8s
