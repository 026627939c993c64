#include "k8s/healing/metrics.h"

#include "config/schema.h"
#include "k8s/healing/recovery.h"

namespace remora::k8s {
namespace {

constexpr std::string_view steps_left_name = "remora_operator_heal_steps_left";
constexpr std::string_view steps_left_help =
    "Steps that a HealingPolicy's budget still allows in its window; of the replica that heals.";

// The choices of a field stand in the schema, and only there.
const auto& choices(const google::protobuf::Descriptor& message, const char* field) {
  return config::rules_of(*message.FindFieldByName(field)).one_of();
}

Counter& evictions(MetricRegistry& registry, std::string_view outcome) {
  return registry.counter("remora_operator_heal_evictions_total",
                          "Pods taken away by healing, by the outcome.", {{"outcome", outcome}});
}

}  // namespace

HealingMetrics::HealingMetrics(MetricRegistry& registry)
    : looks(registry.counter("remora_operator_heal_looks_total", "Looks at a namespace.")),
      evicted(evictions(registry, "evicted")),
      refused(evictions(registry, "refused")),
      rollbacks(
          registry.counter("remora_operator_heal_rollbacks_total",
                           "Deployments and StatefulSets taken back to the revision before.")),
      resizes(registry.counter("remora_operator_heal_resizes_total",
                               "Containers whose memory limit was raised in place.")),
      failures(registry.counter("remora_operator_heal_failures_total",
                                "Answers of the API server that healing could not use.")),
      reports(registry.counter("remora_operator_sidecar_reports_total",
                               "Reports of sidecars that were taken up.")),
      queue_depth(registry.gauge("remora_operator_work_queue_depth",
                                 "Namespaces that wait to be looked at.")),
      queue_oldest(registry.gauge("remora_operator_work_queue_oldest_seconds",
                                  "How long the one has waited that waits longest.")),
      opened_(registry.counter("remora_operator_incidents_opened_total", "Incidents made.")),
      resolved_(registry.counter("remora_operator_incidents_resolved_total", "Incidents ended.")) {
  for (const std::string& kind : choices(*v1alpha1::IncidentSpec::descriptor(), "fault")) {
    faults_[kind] = &registry.counter("remora_operator_faults_total",
                                      "Faults of pods, by kind, when an "
                                      "Incident is made of them.",
                                      {{"kind", kind}});
  }
  for (const std::string& action : choices(*v1alpha1::AgentRequest::descriptor(), "action")) {
    asked_[action] = &registry.counter("remora_operator_heal_requests_total",
                                       "Requests of healing's own to the sidecars of agents: steps "
                                       "of a ladder, and snapshots before a node is emptied.",
                                       {{"action", action}});
  }
  for (const std::string& phase : choices(*v1alpha1::IncidentStatus::descriptor(), "phase")) {
    if (phase == "Resolved") continue;
    open_[phase] = &registry.gauge("remora_operator_incidents",
                                   "Incidents that are not over, by phase; of the replica that "
                                   "heals.",
                                   {{"phase", phase}});
  }
  constexpr std::array<std::string_view, 5> phases = {"detect", "decide", "act", "ready", "total"};
  for (size_t i = 0; i < phases.size(); ++i) {
    recovery_[i] = &registry.histogram(
        "remora_operator_recovery_duration_seconds",
        "From a fault's beginning (total), or the end of the phase before, to the end of this "
        "phase, of Incidents that were resolved.",
        {{"phase", phases[i]}});
  }
}

void HealingMetrics::count_opened(const v1alpha1::IncidentSpec& spec) {
  opened_.add();
  const auto fault = faults_.find(spec.fault());
  if (fault != faults_.end()) fault->second->add();
}

void HealingMetrics::count_asked(const std::string& action) {
  const auto asked = asked_.find(action);
  if (asked != asked_.end()) asked->second->add();
}

void HealingMetrics::count_ended(const IncidentRecord& incident) {
  resolved_.add();
  const auto split = recovery_split(incident.spec, incident.status);
  if (!split) return;
  const std::array<Duration, 5> parts = {split->detect, split->decide, split->act, split->ready,
                                         split->total()};
  for (size_t i = 0; i < parts.size(); ++i) recovery_[i]->observe(parts[i]);
}

void HealingMetrics::begin_picture() {
  for (auto& [phase, gauge] : open_) gauge->set(0);
  steps_left_.clear();
}

void HealingMetrics::add_to_picture(const IncidentRecord& incident) {
  if (!incident.status.ended_at().empty()) return;
  const std::string& phase = incident.status.phase();
  const auto gauge = open_.find(phase.empty() ? "Open" : phase);
  if (gauge != open_.end()) gauge->second->set(gauge->second->value() + 1);
}

void HealingMetrics::add_to_picture(const std::string& namespace_name, const std::string& policy,
                                    int steps_left) {
  // Names of Kubernetes have nothing that would have to be escaped.
  steps_left_.append(steps_left_name).append("{namespace=\"").append(namespace_name);
  steps_left_.append("\",policy=\"").append(policy).append("\"} ");
  steps_left_.append(std::to_string(steps_left)).append("\n");
}

std::string HealingMetrics::policy_series() const {
  if (steps_left_.empty()) return {};
  std::string out = "# HELP ";
  out.append(steps_left_name).append(" ").append(steps_left_help).append("\n# TYPE ");
  return out.append(steps_left_name).append(" gauge\n").append(steps_left_);
}

}  // namespace remora::k8s
