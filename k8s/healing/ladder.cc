#include "k8s/healing/ladder.h"

#include <algorithm>
#include <array>
#include <utility>

#include "config/pod.h"

namespace remora::k8s {
namespace {

using v1alpha1::IncidentStatus;
using v1alpha1::IncidentStep;

struct BuiltIn {
  FaultKind fault;
  std::vector<std::string> steps;
};

// "wait": the kubelet and the sidecar try by themselves first. A node that isn't ready has been
// waited for by the node controller already (40 s by default).
const std::vector<BuiltIn>& built_in_ladders() {
  static const std::vector<BuiltIn> ladders = {
      {FaultKind::kCrashLoop, {"wait", "alert"}},
      {FaultKind::kOutOfMemory, {"wait", "alert"}},
      {FaultKind::kNodeUnready, {"reschedule", "alert"}},
      {FaultKind::kImagePull, {"wait", "reschedule", "alert"}},
      {FaultKind::kConfigError, {"alert"}},
      {FaultKind::kUnready, {"wait", "reschedule", "alert"}},
  };
  return ladders;
}

void add_evidence(IncidentStatus& status, const std::string& line) {
  if (line.empty()) return;
  const int n = status.evidence_size();
  if (n > 0 && status.evidence(n - 1) == line) return;
  if (n >= evidence_lines_max) status.mutable_evidence()->DeleteSubrange(0, 1);
  status.add_evidence(line);
}

IncidentStep* last_step(IncidentStatus& status) {
  return status.steps_size() == 0 ? nullptr : status.mutable_steps(status.steps_size() - 1);
}

void end_step(IncidentStep& step, const char* state, const std::string& message, WallTime now) {
  step.set_state(state);
  step.set_ended_at(format_time(now));
  step.set_message(message);
}

UpdateIncident resolved(IncidentRecord incident, const std::string& how, WallTime now,
                        std::optional<WallTime> well_since = {}) {
  IncidentStatus& status = incident.status;
  if (IncidentStep* step = last_step(status); step != nullptr && step->name() != "alert") {
    const bool never_done = step->state() == "intended";
    if (never_done) end_step(*step, "skipped", "no longer needed", now);
    if (step->state() == "done") end_step(*step, "verified", how, now);
  }
  add_evidence(status, how);
  status.set_phase("Resolved");
  status.clear_hold();
  status.set_ended_at(format_time(now));
  const auto began = parse_time(incident.spec.began_at());
  const auto from = began ? began : parse_time(incident.spec.detected_at());
  const WallTime until = well_since.value_or(now);
  if (from && until > *from) status.set_recovery_seconds(to_ms(until - *from) / 1000);
  return {.incident = std::move(incident), .reason = "RemoraResolved", .message = how};
}

bool is_newer_than(const PodFacts& pod, std::optional<WallTime> time) {
  return !time || !pod.created_at || *pod.created_at + std::chrono::seconds(1) >= *time;
}

// The pod is no more: its Incident ends once another one is ready in its place, or, where none
// comes (its owner was made smaller), when all others are well.
void plan_without_pod(IncidentRecord incident, const Replacements& replacements, Duration limit,
                      WallTime now, NamespacePlan& plan) {
  if (incident.spec.pod().owner().empty()) {
    return plan.actions.push_back(resolved(std::move(incident), "the pod is gone", now));
  }
  const auto detected = parse_time(incident.spec.detected_at());
  for (const PodFacts* pod : replacements.pods) {
    if (!pod->ready || !is_newer_than(*pod, detected)) continue;
    if (!replacements.taken->insert(pod->uid).second) continue;
    incident.status.set_replacement_uid(pod->uid);
    const std::string how = "pod " + pod->name + " on " + pod->node + " is ready instead";
    return plan.actions.push_back(resolved(std::move(incident), how, now));
  }
  if (detected && now - *detected < limit) return;
  if (std::ranges::all_of(replacements.pods, &PodFacts::ready)) {
    const std::string how = "the pod is gone, and all others of its owner are ready";
    return plan.actions.push_back(resolved(std::move(incident), how, now));
  }
  const IncidentStep* step = last_step(incident.status);
  if (step != nullptr && step->name() == "alert") return;
  const std::string why = "the pod is gone, and none in its place is ready in time";
  IncidentStep& alert = *incident.status.add_steps();
  alert.set_name("alert");
  alert.set_state("done");
  alert.set_started_at(format_time(now));
  alert.set_message(why);
  incident.status.set_phase("Alerted");
  plan.actions.push_back(
      UpdateIncident{.incident = std::move(incident), .reason = "RemoraAlert", .message = why});
}

// What keeps this pod from being taken away for good; empty: nothing.
std::string never(const PodFacts& pod) {
  if (pod.owner_kind.empty()) return "nobody would make the pod again: it has no controller";
  if (pod.owner_kind == "DaemonSet" || pod.owner_kind == "Node") {
    return "its " + pod.owner_kind + " keeps it on this node";
  }
  return {};
}

class IncidentPlan {
 public:
  IncidentPlan(const IncidentRecord& incident, const PodFacts& pod, const PodFault& fault,
               PolicyState& state, WallTime now, NamespacePlan& plan)
      : incident_(incident), pod_(pod), fault_(fault), state_(state), now_(now), plan_(plan) {}

  void make() {
    add_evidence(incident_.status, fault_.summary);
    IncidentStep* step = last_step(incident_.status);
    if (step != nullptr && step->state() == "intended") return carry_out();
    if (step != nullptr && step->name() == "alert") return;
    if (step != nullptr && step->state() == "done") {
      const auto started = parse_time(step->started_at());
      const Duration limit = duration_of(state_.policy->spec.step_timeout());
      if (started && now_ - *started < limit) return;
      end_step(*step, "failed", "the pod was not well in time", now_);
    }
    next();
  }

 private:
  std::string hold() const {
    if (pod_.paused)
      return "the pod is paused by the annotation " + std::string(config::pause_annotation);
    if (state_.policy->spec.dry_run()) return "the policy is a dry run now";
    return state_.hold;
  }

  void carry_out() {
    if (const std::string why = hold(); !why.empty()) return held(why);
    plan_.actions.push_back(EvictPod{
        .incident = incident_, .pod_ready = pod_.ready, .pod_version = pod_.resource_version});
  }

  void next() {
    const std::vector<std::string> ladder = ladder_of(state_.policy->spec, fault_.kind);
    const auto at = static_cast<size_t>(incident_.status.steps_size());
    // Where the ladder ends without one, people are told all the same.
    const std::string name = at < ladder.size() ? ladder[at] : "alert";
    if (name == "wait") return write("wait", "done", "the kubelet and the sidecar try", "");
    if (name == "alert") {
      incident_.status.set_phase("Alerted");
      return write("alert", "done", fault_.summary, "RemoraAlert");
    }
    reschedule();
  }

  void reschedule() {
    if (const std::string why = never(pod_); !why.empty()) {
      return write("reschedule", "skipped", why, "");
    }
    if (state_.policy->spec.dry_run()) {
      return write("reschedule", "skipped", "dry run: the pod would be evicted now",
                   "RemoraDryRun");
    }
    std::string why = hold();
    const v1alpha1::Budgets& budgets = state_.policy->spec.budgets();
    if (why.empty() && state_.steps_in_window >= budgets.steps_max()) {
      why = "the budget of " + std::to_string(budgets.steps_max()) + " steps is used up";
    }
    if (!why.empty()) return held(why);
    ++state_.steps_in_window;
    write("reschedule", "intended", "", "RemoraReschedule");
  }

  void write(const char* name, const char* state, const std::string& message, const char* reason) {
    IncidentStep& step = *incident_.status.add_steps();
    step.set_name(name);
    step.set_state(state);
    step.set_started_at(format_time(now_));
    step.set_message(message);
    if (incident_.status.phase() != "Alerted") incident_.status.set_phase("Healing");
    incident_.status.clear_hold();
    const std::string words = message.empty() ? fault_.summary : message;
    plan_.actions.push_back(
        UpdateIncident{.incident = incident_, .reason = reason, .message = words});
  }

  void held(const std::string& why) {
    IncidentStatus& status = incident_.status;
    if (status.phase() == "Held" && status.hold() == why) return;
    status.set_phase("Held");
    status.set_hold(why);
    plan_.actions.push_back(
        UpdateIncident{.incident = incident_, .reason = "RemoraHeld", .message = why});
  }

  IncidentRecord incident_;
  const PodFacts& pod_;
  const PodFault& fault_;
  PolicyState& state_;
  const WallTime now_;
  NamespacePlan& plan_;
};

}  // namespace

Duration duration_of(const google::protobuf::Duration& duration) {
  return std::chrono::seconds(duration.seconds()) + std::chrono::nanoseconds(duration.nanos());
}

std::vector<std::string> ladder_of(const v1alpha1::HealingPolicySpec& spec, FaultKind kind) {
  for (const v1alpha1::ClusterLadder& ladder : spec.ladders()) {
    if (ladder.fault() == to_string(kind)) return {ladder.steps().begin(), ladder.steps().end()};
  }
  const auto found = std::ranges::find(built_in_ladders(), kind, &BuiltIn::fault);
  return found->steps;
}

void plan_incident(const IncidentRecord& incident, const PodFacts* pod,
                   const std::optional<PodFault>& fault, const Replacements& replacements,
                   PolicyState* state, WallTime now, NamespacePlan& plan) {
  constexpr Duration without_policy = std::chrono::minutes(5);
  const Duration limit =
      state == nullptr ? without_policy : duration_of(state->policy->spec.step_timeout());
  if (pod == nullptr || pod->deleting || pod->ended()) {
    return plan_without_pod(incident, replacements, limit, now, plan);
  }
  if (!fault) {
    constexpr Duration stable_without_policy = std::chrono::seconds(30);
    const Duration stable =
        state == nullptr ? stable_without_policy : duration_of(state->policy->spec.stable_after());
    const bool is_stable = !pod->ready_since || now - *pod->ready_since >= stable;
    if (!pod->ready || !is_stable) return;
    plan.actions.push_back(resolved(incident, "the pod is ready", now, pod->ready_since));
    return;
  }
  if (state != nullptr) IncidentPlan(incident, *pod, *fault, *state, now, plan).make();
}

}  // namespace remora::k8s
