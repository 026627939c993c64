#include "k8s/healing/departed.h"

#include <algorithm>
#include <utility>

#include "k8s/healing/orders.h"
#include "k8s/healing/steps.h"

namespace remora::k8s {

using v1alpha1::IncidentStatus;
using v1alpha1::IncidentStep;

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

bool is_intended(const IncidentRecord& incident) {
  const int n = incident.status.steps_size();
  return n > 0 && incident.status.steps(n - 1).state() == "intended";
}

UpdateIncident resolved(IncidentRecord incident, const std::string& how, WallTime now,
                        std::optional<WallTime> well_since) {
  IncidentStatus& status = incident.status;
  if (IncidentStep* step = last_step(status); step != nullptr && step->name() != "alert") {
    if (step->state() == "intended") {
      // Somebody else's request may have taken the place of what was asked: it counts as a step.
      if (is_order(step->name())) {
        end_step(*step, "failed", "the pod was well before an outcome was known", now);
      } else {
        end_step(*step, "skipped", "no longer needed", now);
      }
    }
    if (step->state() == "done") {
      const std::string& said = step->message();
      end_step(*step, "verified", said.empty() ? how : said + "; " + how, now);
    }
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

bool know_claims(const PodFacts& pod, const NamespaceView& view, NamespacePlan& plan) {
  ReadClaims read;
  bool known = true;
  for (const std::string& name : pod.claims) {
    const auto claim = view.claims->find(name);
    known = known && claim != view.claims->end();
    const bool fresh =
        claim != view.claims->end() &&
        view.now - claim->second.read_at < std::chrono::milliseconds(claims_age_ms_max);
    if (!fresh) read.names.push_back(name);
  }
  if (!read.names.empty()) plan.actions.push_back(std::move(read));
  return known;
}

namespace {

bool is_newer_than(const PodFacts& pod, std::optional<WallTime> time) {
  return !time || !pod.created_at || *pod.created_at + std::chrono::seconds(1) >= *time;
}

// How a rollback has ended well; empty: there was none, or it hasn't.
std::string rolled_back_well(const IncidentRecord& incident, const NamespaceView& view) {
  const auto& steps = incident.status.steps();
  const auto step = std::ranges::find_if(steps, [](const IncidentStep& each) {
    // Intended: the operator ended, or the pod did, between the rollback and its word of it.
    return each.name() == "roll_back" && (each.state() == "done" || each.state() == "intended");
  });
  if (step == steps.end()) return {};
  int ready = 0;
  for (const auto& [name, pod] : *view.pods) {
    if (pod.deleting || pod.ended() || workload_of(pod) != incident.status.workload()) continue;
    const std::string revision = revision_of(pod);
    const bool moved = step->target().empty() ? revision != incident.spec.pod().revision()
                                              : revision == step->target();
    if (!pod.ready || !moved) return {};
    ++ready;
  }
  if (ready == 0) return {};
  return "all " + std::to_string(ready) + " pods of " + incident.status.workload() +
         " are ready, of another revision";
}

UpdateIncident alerted(IncidentRecord incident, const std::string& why, WallTime now) {
  IncidentStep& alert = *incident.status.add_steps();
  alert.set_name("alert");
  alert.set_state("done");
  alert.set_started_at(format_time(now));
  alert.set_message(why);
  incident.status.set_phase("Alerted");
  return {.incident = std::move(incident), .reason = "RemoraAlert", .message = why};
}

bool is_alerted(const IncidentRecord& incident) {
  const int n = incident.status.steps_size();
  return n > 0 && incident.status.steps(n - 1).name() == "alert";
}

// A rollback whose pods are not all ready yet: since when; nothing: there is none.
std::optional<WallTime> rolls_back_since(const IncidentRecord& incident) {
  const auto& steps = incident.status.steps();
  const auto step = std::ranges::find(steps, "roll_back", &IncidentStep::name);
  if (step == steps.end() || step->state() == "failed" || step->state() == "skipped") return {};
  return parse_time(step->started_at());
}

// A rollback that was not over in time. Somebody may have rolled on since: pods that are all ready
// are well, of whatever revision.
void plan_rollback_without_pod(IncidentRecord incident, Duration waited, Duration limit,
                               const NamespaceView& view, NamespacePlan& plan) {
  if (waited < limit) return;
  const std::string workload = incident.status.workload();
  int pods = 0;
  int ready = 0;
  for (const auto& [name, pod] : *view.pods) {
    if (pod.deleting || pod.ended() || workload_of(pod) != workload) continue;
    ++pods;
    if (pod.ready) ++ready;
  }
  if (ready == pods) {
    const std::string how =
        pods == 0 ? workload + " has no pods any more" : "all pods of " + workload + " are ready";
    return plan.actions.push_back(resolved(std::move(incident), how, view.now));
  }
  if (is_alerted(incident)) return;
  const std::string why = "not all pods of " + workload + " are ready in time";
  plan.actions.push_back(alerted(std::move(incident), why, view.now));
}

// For which volume whoever takes the place of a pod on a lost node has to wait; empty: for none.
std::string volume_wait(const IncidentRecord& incident, const PodFacts& pod,
                        const NamespaceView& view, NamespacePlan& plan) {
  if (incident.spec.fault() != to_string(FaultKind::kNodeUnready)) return {};
  if (!know_claims(pod, view, plan)) return {};
  return attached_still(*view.claims, pod.claims, pod.node);
}

// What holds the recovery up stands in the Incident while it does.
void note_wait(IncidentRecord incident, const std::string& waits, NamespacePlan& plan) {
  IncidentStatus& status = incident.status;
  if (status.hold() == waits || status.phase() == "Alerted") return;
  if (waits.empty() && !status.hold().starts_with("waits for the detach")) return;
  status.set_phase(waits.empty() ? "Healing" : "Held");
  status.set_hold(waits);
  if (waits.empty()) add_evidence(status, "its volumes are detached");
  const std::string words = waits.empty() ? "its volumes are detached" : waits;
  plan.actions.push_back(UpdateIncident{.incident = std::move(incident),
                                        .reason = waits.empty() ? "" : "RemoraHeld",
                                        .message = words});
}

}  // namespace

void plan_without_pod(IncidentRecord incident, const PodFacts* pod,
                      const Replacements& replacements, Duration limit, const NamespaceView& view,
                      NamespacePlan& plan) {
  const WallTime now = view.now;
  // Whoever ended between the step and its word: what it was to do is so, and it counts.
  if (is_intended(incident)) end_step(*last_step(incident.status), "done", "the pod is gone", now);
  if (incident.spec.pod().owner().empty()) {
    return plan.actions.push_back(resolved(std::move(incident), "the pod is gone", now));
  }
  if (std::string how = rolled_back_well(incident, view); !how.empty()) {
    return plan.actions.push_back(resolved(std::move(incident), how, now));
  }
  if (const auto since = rolls_back_since(incident)) {
    return plan_rollback_without_pod(std::move(incident), now - *since, limit, view, plan);
  }
  const auto detected = parse_time(incident.spec.detected_at());
  for (const PodFacts* other : replacements.pods) {
    if (!other->ready || !is_newer_than(*other, detected)) continue;
    if (!replacements.taken->insert(other->uid).second) continue;
    incident.status.set_replacement_uid(other->uid);
    std::string how = "pod " + other->name + " on " + other->node + " is ready instead";
    const IncidentStep* last = last_step(incident.status);
    if (last != nullptr && last->name() == "reprovision") how += ", from " + images_of(*other);
    return plan.actions.push_back(resolved(std::move(incident), how, now));
  }
  const std::string waits =
      pod == nullptr ? std::string() : volume_wait(incident, *pod, view, plan);
  if (detected && now - *detected < limit) return note_wait(std::move(incident), waits, plan);
  // A pod that its lost node doesn't let go keeps its place taken.
  const bool is_stuck =
      pod != nullptr && incident.spec.fault() == to_string(FaultKind::kNodeUnready);
  if (!is_stuck && std::ranges::all_of(replacements.pods, &PodFacts::ready)) {
    const std::string how = "the pod is gone, and all others of its owner are ready";
    return plan.actions.push_back(resolved(std::move(incident), how, now));
  }
  if (is_alerted(incident)) return;
  std::string why = "the pod is gone, and none in its place is ready in time";
  if (pod != nullptr) {
    why = "the pod was told to go, and none in its place is ready in time";
    if (incident.spec.pod().owner().starts_with("StatefulSet/")) {
      why +=
          ": its StatefulSet makes no other while the node has not let go of this one; a person "
          "who knows that the node is off taints it node.kubernetes.io/out-of-service";
    }
    if (!waits.empty()) why += "; it " + waits;
  }
  plan.actions.push_back(alerted(std::move(incident), why, now));
}

}  // namespace remora::k8s
