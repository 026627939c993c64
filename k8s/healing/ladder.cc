#include "k8s/healing/ladder.h"

#include <algorithm>
#include <utility>

#include "config/pod.h"
#include "k8s/healing/departed.h"
#include "k8s/healing/leaving.h"
#include "k8s/healing/orders.h"
#include "k8s/healing/quantity.h"
#include "k8s/healing/sidecar_reports.h"
#include "k8s/healing/steps.h"

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
      // Another node would find the same volume.
      {FaultKind::kVolumeError, {"wait", "alert"}},
      {FaultKind::kUnready, {"wait", "reschedule", "alert"}},
      // The sidecar has waited and tried by itself.
      {FaultKind::kGaveUp, {"reschedule", "alert"}},
  };
  return ladders;
}

class IncidentPlan {
 public:
  IncidentPlan(const IncidentRecord& incident, const PodFacts& pod, const PodFault& fault,
               PolicyState& state, SharedBudgets& shared, const NamespaceView& view,
               NamespacePlan& plan)
      : incident_(incident),
        pod_(pod),
        fault_(fault),
        state_(state),
        shared_(shared),
        view_(view),
        plan_(plan) {}

  void make() {
    add_evidence(incident_.status, fault_.summary);
    add_probe_evidence();
    IncidentStep* step = last_step(incident_.status);
    if (step != nullptr && step->state() == "intended") return carry_out(*step);
    if (step != nullptr && step->name() == "alert") return;
    if (step != nullptr && step->state() == "done") {
      const auto started = parse_time(step->started_at());
      const Duration limit = duration_of(spec().step_timeout());
      const bool refused =
          step->name() == "resize" && pod_.resize_refusal.starts_with("Infeasible");
      if (!refused && started && view_.now - *started < limit) return;
      end_step(*step, "failed",
               step->name() == "resize" && !pod_.resize_refusal.empty()
                   ? "the node did not do it: " + pod_.resize_refusal
                   : "the pod was not well in time",
               view_.now);
    }
    next();
  }

 private:
  void add_probe_evidence() {
    const auto known = view_.events->find(pod_.uid);
    if (known == view_.events->end()) return;
    for (const PodEvent& event : known->second.events) {
      if (event.reason == "Unhealthy") add_evidence(incident_.status, event.message);
    }
  }

  const v1alpha1::HealingPolicySpec& spec() const { return state_.policy->spec; }

  // Many sick pods at once are no reason to take any of them away; they may be the very reason to
  // go back to the revision before.
  std::string hold(const std::string& step) const {
    if (pod_.paused)
      return "the pod is paused by the annotation " + std::string(config::pause_annotation);
    if (!state_.hold.empty()) return state_.hold;
    return step == "roll_back" ? std::string() : state_.crowd;
  }

  void carry_out(const IncidentStep& step) {
    OrderState order;
    if (is_order(step.name())) {
      order = order_state(incident_, pod_, view_.agents);
      if (order.outcome) return finish(*order.outcome, order.message);
    }
    std::string why = hold(step.name());
    if (why.empty() && spec().dry_run()) why = "the policy is a dry run now";
    if (!why.empty()) return held(why);
    const auto started = parse_time(step.started_at());
    if (step.name() == "reschedule" || step.name() == "reprovision") {
      // Else the next pod may be sent to the very node that this one is taken from.
      const bool may_wait =
          started && view_.now - *started < std::chrono::milliseconds(avoid_known_wait_ms_max);
      const bool avoids = duration_of(spec().avoid_node_for()) > Duration{};
      if (avoids && may_wait && !is_avoided(state_.policy->status, pod_)) return;
      return evict();
    }
    if (started && view_.now - *started >= duration_of(spec().step_timeout())) {
      finish(StepOutcome::kImpossible, "it could not be done in time");
    } else if (step.name() == "roll_back") {
      carry_out_rollback(step.target());
    } else if (is_order(step.name())) {
      for (AskAgent& ask : order.ask) plan_.actions.push_back(std::move(ask));
    } else {
      carry_out_resize(step.target());
    }
  }

  void next() {
    const std::vector<std::string> ladder = ladder_of(spec(), fault_.kind);
    const auto at = static_cast<size_t>(incident_.status.steps_size());
    // Where the ladder ends without one, people are told all the same.
    const std::string name = at < ladder.size() ? ladder[at] : "alert";
    if (name == "wait") return write("wait", "done", "the kubelet and the sidecar try", "");
    if (name == "alert") {
      incident_.status.set_phase("Alerted");
      return write("alert", "done", fault_.summary, "RemoraAlert");
    }
    if (name == "roll_back") return roll_back();
    if (name == "resize") return resize();
    if (is_order(name)) return order(name);
    const std::string why = name == "reprovision" ? why_not_afresh(pod_) : why_stays(pod_);
    if (!why.empty()) return write(name, "skipped", why, "");
    intend(name, "the pod would be evicted now", "", "");
  }

  // message: what it is about to do.
  void intend(const std::string& name, const std::string& would, const std::string& message,
              const std::string& target) {
    if (spec().dry_run()) return write(name, "skipped", "dry run: " + would, "RemoraDryRun");
    if (const std::string why = hold_or_budget(name); !why.empty()) return held(why);
    if (fault_.kind == FaultKind::kNodeUnready) {
      if (!know_claims(pod_, view_, plan_)) return;
      for (const std::string& claim : pod_.claims) {
        add_evidence(incident_.status, claim_words(claim, view_.claims->at(claim), pod_.node));
      }
    }
    ++state_.steps_in_window;
    shared_.of_namespace.push_back(view_.now);
    shared_.of_fleet.push_back(view_.now);
    write(name, "intended", message, begun_reason(name), target);
  }

  std::string hold_or_budget(const std::string& name) const {
    if (std::string why = hold(name); !why.empty()) return why;
    const v1alpha1::Budgets& budgets = spec().budgets();
    if (state_.steps_in_window >= budgets.steps_max()) {
      return "the budget of " + std::to_string(budgets.steps_max()) + " steps is used up";
    }
    std::string why =
        budget_hold("the namespace", view_.namespace_budget, shared_.of_namespace, view_.now);
    if (!why.empty()) return why;
    return budget_hold("the fleet", view_.fleet_budget, shared_.of_fleet, view_.now);
  }

  // --- restart, restore ---
  void order(const std::string& name) {
    const std::string why = why_not_ordered(incident_, pod_, fault_, name, view_.agents);
    if (!why.empty()) return write(name, "skipped", why, "");
    intend(name, "its sidecar would be asked now", "", "");
  }

  // --- reschedule, reprovision ---
  void evict() {
    if (last_step(incident_.status)->name() == "reprovision") {
      add_evidence(incident_.status, "it ran " + images_of(pod_));
    }
    plan_.actions.push_back(EvictPod{.incident = incident_,
                                     .pod_ready = pod_.ready,
                                     .pod_version = pod_.resource_version,
                                     .is_cut_off = fault_.kind == FaultKind::kNodeUnready});
  }

  // --- resize ---
  void resize() {
    const MemoryPlan memory = plan_memory(pod_, fault_.container, spec());
    if (!memory.why_not.empty()) return write("resize", "skipped", memory.why_not, "");
    const std::string what = "memory limit of container " + memory.container + " from " +
                             format_quantity(memory.from_bytes) + " to " +
                             format_quantity(memory.to_bytes);
    intend("resize", what, what, std::to_string(memory.to_bytes));
  }

  // As it was written down: a limit that was raised already must not be raised further.
  void carry_out_resize(const std::string& target) {
    const int64_t to_bytes = parse_quantity(target).value_or(0);
    const MemoryPlan memory = plan_memory(pod_, incident_.spec.container(), spec());
    if (memory.from_bytes >= to_bytes && memory.from_bytes > 0) {
      return finish(StepOutcome::kDone,
                    "container " + memory.container + " has " + format_quantity(to_bytes) +
                        " of memory now; what " + pod_.owner() +
                        " makes next begins with the limit of its template, which stays as it is");
    }
    if (memory.from_bytes == 0) return finish(StepOutcome::kImpossible, memory.why_not);
    // Of a pod of which nothing runs the kubelet (1.34) raises the container's limit and not the
    // pod's own: the next start would be killed all the same.
    const auto sick = std::ranges::find(pod_.containers, memory.container, &ContainerFacts::name);
    if (!sick->running) return;
    plan_.actions.push_back(
        ResizePod{.incident = incident_,
                  .container = memory.container,
                  .limit_bytes = to_bytes,
                  .request_bytes = memory.request_bytes ? std::optional(to_bytes) : std::nullopt});
  }

  // --- roll_back ---
  // Null: it has been asked for.
  const WorkloadFacts* workload() {
    const auto found = view_.workloads->find(pod_.owner());
    const bool fresh =
        found != view_.workloads->end() &&
        view_.now - found->second.read_at < std::chrono::milliseconds(workload_age_ms_max);
    if (fresh) return &found->second;
    const bool asked = std::ranges::any_of(plan_.actions, [this](const HealAction& action) {
      const auto* read = std::get_if<ReadWorkload>(&action);
      return read != nullptr && read->owner() == pod_.owner();
    });
    if (!asked) plan_.actions.push_back(ReadWorkload{pod_.owner_kind, pod_.owner_name});
    return nullptr;
  }

  // One rollback helps all pods of the revision, and counts once.
  bool rolls_back(const IncidentRecord& other) const {
    const auto& steps = other.status.steps();
    return other.name != incident_.name && other.status.ended_at().empty() &&
           other.spec.pod().revision() == revision_of(pod_) &&
           std::ranges::any_of(steps, [](const IncidentStep& step) {
             return step.name() == "roll_back" &&
                    (step.state() == "intended" || step.state() == "done");
           });
  }
  std::string who_rolls_back() const {
    for (const auto& [name, other] : *view_.incidents) {
      if (rolls_back(other)) return name;
    }
    for (const HealAction& action : plan_.actions) {
      const auto* update = std::get_if<UpdateIncident>(&action);
      if (update != nullptr && rolls_back(update->incident)) return update->incident.name;
    }
    return {};
  }

  RollbackChoice choose(const WorkloadFacts& workload) const {
    std::vector<std::string> sick = sick_revisions(*view_.incidents);
    std::erase(sick, revision_of(pod_));
    return choose_rollback(workload, pod_, sick, duration_of(spec().rollback().within()),
                           duration_of(spec().stable_after()), view_.now);
  }

  void roll_back() {
    if (revision_of(pod_).empty() || fault_.kind == FaultKind::kNodeUnready) {
      return write("roll_back", "skipped", "its revision is not what is wrong, or nobody keeps one",
                   "");
    }
    if (const std::string other = who_rolls_back(); !other.empty()) {
      incident_.status.set_workload(workload_of(pod_));
      return write("roll_back", "done", "Incident " + other + " does it", "");
    }
    // Before three questions to the API server.
    const std::string why = spec().dry_run() ? std::string() : hold_or_budget("roll_back");
    if (!why.empty()) return held(why);
    const WorkloadFacts* known = workload();
    if (known == nullptr) return;
    const RollbackChoice choice = choose(*known);
    incident_.status.set_workload(known->kind.empty() ? "" : known->key());
    if (choice.already) return write("roll_back", "done", choice.why, "", known->current);
    if (choice.target == nullptr) return write("roll_back", "skipped", choice.why, "");
    const std::string what =
        known->key() + " from revision " + revision_of(pod_) + " to " + choice.target->name;
    intend("roll_back", what, what, choice.target->name);
  }

  void carry_out_rollback(const std::string& target) {
    const WorkloadFacts* known = workload();
    if (known == nullptr) return;
    const RollbackChoice choice = choose(*known);
    if (choice.already || was_rolled_back(*known, revision_of(pod_), target)) {
      // Its controller would wait for the sick one to become ready before it goes on.
      if (known->kind == "StatefulSet") return evict();
      return finish(StepOutcome::kDone, "");
    }
    if (choice.target == nullptr) return finish(StepOutcome::kImpossible, choice.why);
    if (choice.target->name != target) {
      return finish(StepOutcome::kImpossible, "the revision before is another by now");
    }
    const bool under_way = std::ranges::any_of(plan_.actions, [this](const HealAction& action) {
      const auto* other = std::get_if<RollBack>(&action);
      return other != nullptr && other->owner == pod_.owner();
    });
    if (under_way) return;
    plan_.actions.push_back(RollBack{.incident = incident_,
                                     .workload = *known,
                                     .target = *choice.target,
                                     .owner = pod_.owner(),
                                     .from = revision_of(pod_)});
  }

  // --- the Incident ---
  void finish(StepOutcome outcome, const std::string& message) {
    plan_.actions.push_back(after_step(incident_, outcome, message, view_.now));
  }

  void write(const std::string& name, const char* state, const std::string& message,
             const std::string& reason, const std::string& target = "") {
    IncidentStep& step = *incident_.status.add_steps();
    step.set_name(name);
    step.set_state(state);
    step.set_started_at(format_time(view_.now));
    step.set_message(message);
    step.set_target(target);
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
  SharedBudgets& shared_;
  const NamespaceView& view_;
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
                   PolicyState* state, SharedBudgets& shared, const NamespaceView& view,
                   NamespacePlan& plan) {
  const WallTime now = view.now;
  constexpr Duration without_policy = std::chrono::minutes(5);
  const Duration limit =
      state == nullptr ? without_policy : duration_of(state->policy->spec.step_timeout());
  if (pod == nullptr || pod->deleting || pod->ended()) {
    return plan_without_pod(incident, pod, replacements, limit, view, plan);
  }
  // What was written down is not put off between two moments that show the fault, and what was
  // asked of somebody else is heard to its end.
  const auto goes_on = [&] {
    if (!pod->ready) return true;
    const std::string& step = incident.status.steps().rbegin()->name();
    return step == "resize" ||
           (is_order(step) && order_state(incident, *pod, view.agents).is_asked);
  };
  const bool in_between = !fault && is_intended(incident) && goes_on();
  if (in_between && state != nullptr) {
    const PodFault same{.kind = fault_kind_of(incident.spec.fault()).value_or(FaultKind::kUnready),
                        .container = incident.spec.container(),
                        .summary = incident.spec.summary(),
                        .began_at = {}};
    return IncidentPlan(incident, *pod, same, *state, shared, view, plan).make();
  }
  if (!fault) {
    constexpr Duration stable_without_policy = std::chrono::seconds(30);
    constexpr Duration unready_told = std::chrono::milliseconds(unready_told_ms_max);
    const Duration stable =
        state == nullptr ? stable_without_policy : duration_of(state->policy->spec.stable_after());
    const bool is_stable = !pod->ready_since || now - *pod->ready_since >= stable;
    // The pod may be called ready only because nobody has heard yet that it isn't. Nodes' clocks
    // may be a little ahead.
    const auto gave_up = gave_up_at(incident);
    const bool is_told =
        !gave_up || std::chrono::abs(now - *gave_up) >= std::max(stable, unready_told);
    if (!pod->ready || !is_stable || !is_told) return;
    plan.actions.push_back(resolved(incident, "the pod is ready", now, pod->ready_since));
    return;
  }
  if (state != nullptr) IncidentPlan(incident, *pod, *fault, *state, shared, view, plan).make();
}

}  // namespace remora::k8s
