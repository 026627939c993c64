#include "k8s/healing/leaving.h"

#include <algorithm>
#include <charconv>

#include "k8s/inject/avoid_nodes.h"

namespace remora::k8s {
namespace {

int64_t unix_s(WallTime time) {
  return std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
}

// "cordon-n2-1767225600": of a request that an earlier look has written.
std::string request_prefix(const std::string& node) { return "cordon-" + node + "-"; }

std::optional<int64_t> asked_at(const std::string& request, const std::string& node) {
  const std::string prefix = request_prefix(node);
  if (!request.starts_with(prefix)) return std::nullopt;
  int64_t seconds = 0;
  const char* const end = request.data() + request.size();
  const auto [at, problem] = std::from_chars(request.data() + prefix.size(), end, seconds);
  return problem == std::errc() && at == end ? std::optional(seconds) : std::nullopt;
}

// Also what is about to be: the pod's successor comes the moment after.
bool moves(const v1alpha1::IncidentStep& step) {
  return (step.name() == "reschedule" || step.name() == "reprovision") && step.state() != "skipped";
}

}  // namespace

std::optional<AskAgent> ask_before_leaving(const PodFacts& pod, const NodeFacts& node,
                                           const AgentFacts& agent, WallTime now) {
  // One that a person wrote is theirs until it is over.
  if (node.leaving.empty() || !node.ready || !agent.takes_snapshots || agent.is_busy) {
    return std::nullopt;
  }
  const auto asked = asked_at(agent.last_request, node.name);
  const bool is_of_before = asked && node.last_open && *asked < unix_s(*node.last_open);
  if (asked && !is_of_before) return std::nullopt;
  return AskAgent{.agent = agent.name,
                  .pod = pod.name,
                  .pod_uid = pod.uid,
                  .id = request_prefix(node.name) + std::to_string(unix_s(now)),
                  .action = "Snapshot",
                  .why = "node " + node.name + " is about to be emptied: " + node.leaving};
}

std::vector<v1alpha1::AvoidedNode> avoided_nodes(
    const std::map<std::string, IncidentRecord>& incidents, const std::string& policy,
    Duration avoid_for, WallTime now) {
  std::map<std::string, v1alpha1::AvoidedNode> newest;  // by node and workload
  for (const auto& [name, incident] : incidents) {
    const v1alpha1::PodReference& pod = incident.spec.pod();
    if (incident.spec.policy() != policy || pod.node().empty() || pod.owner().empty()) continue;
    for (const v1alpha1::IncidentStep& step : incident.status.steps()) {
      // Not from its end: a step that fails has begun just as well.
      const auto moved_at = parse_time(step.started_at());
      if (!moves(step) || !moved_at || now - *moved_at >= avoid_for) continue;
      v1alpha1::AvoidedNode& place = newest[pod.node() + " " + workload_of_owner(pod.owner())];
      std::string until = format_time(*moved_at + avoid_for);
      if (until <= place.until()) continue;
      place.set_node(pod.node());
      place.set_workload(workload_of_owner(pod.owner()));
      place.set_until(std::move(until));
      place.set_incident(name);
    }
  }
  std::vector<v1alpha1::AvoidedNode> all;
  all.reserve(newest.size());
  for (auto& [key, node] : newest) all.push_back(std::move(node));
  std::ranges::stable_sort(all, std::greater<>(), &v1alpha1::AvoidedNode::until);
  if (all.size() > avoided_nodes_max) all.resize(avoided_nodes_max);
  return all;
}

bool is_avoided(const v1alpha1::HealingPolicyStatus& status, const PodFacts& pod) {
  const std::string workload = workload_of_owner(pod.owner());
  return std::ranges::any_of(status.avoided_nodes(), [&](const v1alpha1::AvoidedNode& one) {
    return one.node() == pod.node && one.workload() == workload;
  });
}

}  // namespace remora::k8s
