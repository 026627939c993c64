#include "k8s/healing/steps.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "k8s/healing/quantity.h"

namespace remora::k8s {
namespace {

constexpr int64_t mebibyte = int64_t{1} << 20;

// Steps that disturb a pod or its workload, with the reasons of the Events that tell of them.
struct StepReasons {
  std::string_view step;
  std::string_view begun;
  std::string_view done;
};
constexpr std::array<StepReasons, 6> step_reasons = {{
    {"restart", "RemoraRestart", "RemoraRestarted"},
    {"restore", "RemoraRestore", "RemoraRestored"},
    {"resize", "RemoraResize", "RemoraResized"},
    {"reschedule", "RemoraReschedule", "RemoraRescheduled"},
    {"reprovision", "RemoraReprovision", "RemoraReprovisioned"},
    {"roll_back", "RemoraRollBack", "RemoraRolledBack"},
}};

// Null: it disturbs nothing.
const StepReasons* find_step(std::string_view step) {
  const auto* const found = std::ranges::find(step_reasons, step, &StepReasons::step);
  return found == step_reasons.end() ? nullptr : found;
}

const ContainerFacts* container_named(const PodFacts& pod, const std::string& name) {
  const auto found = std::ranges::find(pod.containers, name, &ContainerFacts::name);
  return found == pod.containers.end() ? nullptr : &*found;
}

}  // namespace

bool disturbs(const std::string& step) { return find_step(step) != nullptr; }

std::string begun_reason(const std::string& step) {
  return disturbs(step) ? std::string(find_step(step)->begun) : std::string();
}

std::string why_stays(const PodFacts& pod) {
  if (pod.owner_kind.empty()) return "nobody would make the pod again: it has no controller";
  if (pod.owner_kind == "DaemonSet" || pod.owner_kind == "Node") {
    return "its " + pod.owner_kind + " keeps it on this node";
  }
  return {};
}

// Pinning a digest in the owner's template instead would roll out all replicas for the fault of
// one, and work against whoever keeps that template.
std::string why_not_afresh(const PodFacts& pod) {
  if (std::string why = why_stays(pod); !why.empty()) return why;
  if (!pod.claims.empty()) {
    return "its volume claim " + pod.claims.front() + " would come along: only reschedule moves it";
  }
  for (const ContainerFacts& container : pod.containers) {
    if (container.pulls_always) continue;
    return "container " + container.name + " begins from the node's own copy of " +
           container.image + " where there is one: set imagePullPolicy: Always";
  }
  return {};
}

MemoryPlan plan_memory(const PodFacts& pod, const std::string& container,
                       const v1alpha1::HealingPolicySpec& spec) {
  MemoryPlan plan{.container = container};
  const ContainerFacts* facts = container_named(pod, container);
  if (!spec.has_memory()) {
    plan.why_not = "the policy has no section memory, which says how far";
  } else if (facts == nullptr || !facts->memory_limit_bytes) {
    plan.why_not = "no container of the pod has a memory limit that was too small";
  } else if (facts->is_init) {
    plan.why_not = "container " + container + " is an init container";
  }
  if (!plan.why_not.empty()) return plan;
  plan.from_bytes = *facts->memory_limit_bytes;
  const int64_t bytes_max = spec.memory().bytes_max();
  const auto raised = static_cast<double>(plan.from_bytes) * spec.memory().factor_percent() / 100;
  plan.to_bytes = raised < static_cast<double>(bytes_max)
                      ? (static_cast<int64_t>(raised) + mebibyte - 1) / mebibyte * mebibyte
                      : bytes_max;
  plan.to_bytes = std::min(plan.to_bytes, bytes_max);
  if (plan.to_bytes <= plan.from_bytes) {
    plan.why_not = "container " + container + " has " + format_quantity(plan.from_bytes) +
                   " already, and the policy allows " + format_quantity(bytes_max);
  }
  // Else the pod's class of service would change, which the API server refuses.
  if (facts->memory_request_bytes == facts->memory_limit_bytes) {
    plan.request_bytes = plan.to_bytes;
  }
  return plan;
}

std::vector<std::string> sick_revisions(const std::map<std::string, IncidentRecord>& incidents) {
  std::vector<std::string> sick;
  for (const auto& [name, incident] : incidents) {
    const v1alpha1::IncidentSpec& spec = incident.spec;
    const bool of_the_node = spec.fault() == to_string(FaultKind::kNodeUnready);
    if (!of_the_node && !spec.pod().revision().empty()) sick.push_back(spec.pod().revision());
  }
  return sick;
}

bool was_rolled_back(const WorkloadFacts& workload, const std::string& from,
                     const std::string& to) {
  return std::ranges::find(workload.rolled_back, std::pair(from, to)) != workload.rolled_back.end();
}

std::string images_of(const PodFacts& pod) {
  std::string text;
  for (const ContainerFacts& container : pod.containers) {
    const size_t at = container.image_id.find("sha256:");
    if (at == std::string::npos) continue;
    text += (text.empty() ? "" : ", ") + container.name + " " + container.image_id.substr(at);
  }
  return text;
}

UpdateIncident after_step(IncidentRecord incident, StepOutcome outcome, const std::string& message,
                          WallTime now) {
  v1alpha1::IncidentStatus& status = incident.status;
  UpdateIncident update;
  update.message = message;
  if (outcome == StepOutcome::kHeld) {
    status.set_phase("Held");
    status.set_hold(message);
    update.reason = "RemoraHeld";
  } else if (status.steps_size() > 0) {
    v1alpha1::IncidentStep& step = *status.mutable_steps(status.steps_size() - 1);
    const bool done = outcome == StepOutcome::kDone;
    step.set_state(done ? "done" : "failed");
    step.set_ended_at(format_time(now));
    if (done && step.name() == "roll_back") {
      update.message = status.workload() + " is at revision " + step.target() + " again" +
                       (message.empty() ? "" : "; " + message);
    }
    step.set_message(update.message);
    status.set_phase("Healing");
    status.clear_hold();
    const StepReasons* const reasons = find_step(step.name());
    update.reason = done && reasons != nullptr ? reasons->done : "RemoraStepFailed";
  }
  update.incident = std::move(incident);
  return update;
}

}  // namespace remora::k8s
