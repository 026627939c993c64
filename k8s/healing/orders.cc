#include "k8s/healing/orders.h"

#include <algorithm>
#include <functional>

namespace remora::k8s {
namespace {

// The faulty container's agent; where the fault is of the whole pod, or of a container that is no
// agent, all of the pod's. Of a restore only those that have something to go back to.
std::vector<const AgentFacts*> ordered_agents(const IncidentRecord& incident, const PodFacts& pod,
                                              const std::string& step,
                                              const std::vector<AgentFacts>& agents) {
  std::vector<const AgentFacts*> all;
  for (const AgentFacts& agent : agents) {
    if (agent.pod_uid == pod.uid) all.push_back(&agent);
  }
  const auto is_faulty = [&](const AgentFacts* agent) {
    return agent->container == incident.spec.container();
  };
  if (std::ranges::any_of(all, is_faulty)) std::erase_if(all, std::not_fn(is_faulty));
  if (step == "restore") {
    std::erase_if(all, [](const AgentFacts* agent) { return !agent->takes_snapshots; });
  }
  return all;
}

// The sidecar carries out no id twice, so that asking again is harmless.
std::string order_id(const IncidentRecord& incident) {
  return incident.name + "-" + std::to_string(incident.status.steps_size());
}

}  // namespace

bool is_order(const std::string& step) { return step == "restart" || step == "restore"; }

std::string why_not_ordered(const IncidentRecord& incident, const PodFacts& pod,
                            const PodFault& fault, const std::string& step,
                            const std::vector<AgentFacts>& agents) {
  if (fault.kind == FaultKind::kNodeUnready) {
    return "nothing on its node would start the agent again";
  }
  if (!ordered_agents(incident, pod, step, agents).empty()) return {};
  const bool is_connected =
      std::ranges::find(agents, pod.uid, &AgentFacts::pod_uid) != agents.end();
  return is_connected ? "no agent of the pod keeps snapshots: name its state with "
                        "remora.dev/state-dir"
                      : "no sidecar of the pod is connected to the operator";
}

OrderState order_state(const IncidentRecord& incident, const PodFacts& pod,
                       const std::vector<AgentFacts>& agents) {
  const v1alpha1::IncidentStep& step = *incident.status.steps().rbegin();
  const std::string id = order_id(incident);
  OrderState state;
  size_t over = 0;
  bool failed = false;
  const auto ordered = ordered_agents(incident, pod, step.name(), agents);
  for (const AgentFacts* agent : ordered) {
    if (agent->last_request == id) {
      state.is_asked = true;
      if (agent->is_busy) continue;
      ++over;
      failed = failed || agent->last_failed;
      state.message +=
          (state.message.empty() ? "" : "; ") + agent->container + ": " + agent->last_message;
      continue;
    }
    // What somebody else has asked for is carried out first.
    if (agent->is_busy) continue;
    state.ask.push_back({.agent = agent->name,
                         .pod = pod.name,
                         .pod_uid = pod.uid,
                         .id = id,
                         .action = step.name() == "restore" ? "Restore" : "Restart",
                         .why = "Incident " + incident.name});
  }
  if (over == ordered.size() && !ordered.empty()) {
    state.outcome = failed ? StepOutcome::kImpossible : StepOutcome::kDone;
  }
  return state;
}

}  // namespace remora::k8s
