#include "k8s/healing/plan.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "k8s/healing/ladder.h"
#include "k8s/healing/leaving.h"
#include "k8s/healing/sidecar_reports.h"
#include "k8s/resources/selector.h"

namespace remora::k8s {
namespace {

// FNV-1a: a name must be the same in every build and process.
std::string short_hash(const std::string& text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  std::array<char, 16> digits{};
  std::snprintf(digits.data(), digits.size(), "%010llx",
                static_cast<unsigned long long>(hash & 0xffffffffff));
  return digits.data();
}

bool is_of_injection(const std::string& key) {
  return std::ranges::any_of(config::annotation_vocabulary(), [&](const auto& entry) {
    return entry.pod_only && key == std::string(config::annotation_prefix) + entry.name;
  });
}

// The same for the same life of a pod, kind of fault and how often it had it before: an Incident
// whose creation was not answered is found, not made twice.
std::string incident_name(const PodFacts& pod, FaultKind kind, int before) {
  return name_with_hash(
      pod.name, pod.uid + "/" + std::string(to_string(kind)) + "/" + std::to_string(before));
}

bool is_open(const IncidentRecord& incident) { return incident.status.ended_at().empty(); }

class NamespacePlanner {
 public:
  NamespacePlanner(const NamespaceView& view, std::map<std::string, PolicyMemory>& memory)
      : view_(view), memory_(memory) {}

  NamespacePlan make() {
    assign_policies();
    find_faults();
    count_steps();
    for (PolicyState& state : states_) {
      set_hold(state);
      keep_drain(state);
    }
    shared_.of_namespace = steps_taken(*view_.incidents, view_.now);
    shared_.of_fleet = view_.fleet_steps;
    for (const auto& [name, incident] : *view_.incidents) {
      taken_.insert(incident.status.replacement_uid());
    }
    keep_reports();
    for (const auto& [name, incident] : *view_.incidents) {
      if (written_.contains(name)) continue;  // looked at again with what is written now
      if (is_open(incident)) {
        plan_open(incident);
      } else {
        plan_ended(incident);
      }
    }
    open_new_ones();
    ask_before_nodes_are_left();
    for (PolicyState& state : states_) report(state);
    // Faults that begin by time alone, and limits of steps.
    if (!view_.policies.empty() || !view_.incidents->empty()) {
      plan_.look_again = std::chrono::milliseconds(heal_look_again_ms);
    }
    return std::move(plan_);
  }

 private:
  void assign_policies() {
    states_.reserve(view_.policies.size());
    for (const PolicyRecord& policy : view_.policies) states_.push_back({.policy = &policy});
    for (const auto& [name, pod] : *view_.pods) {
      // One that is leaving is no more; its owner's next one counts.
      if (pod.ended() || pod.deleting) continue;
      const auto found = std::ranges::find_if(states_, [&](const PolicyState& state) {
        return selects(state.policy->spec.selector(), pod.labels);
      });
      if (found == states_.end()) continue;
      policy_of_[pod.name] = &*found;
      ++found->pods;
      if (pod.ready) ++found->ready;
      if (is_outdated(pod, *found->policy, told_by(pod))) ++found->outdated;
    }
  }

  const ToldSettings* told_by(const PodFacts& pod) const {
    if (view_.told == nullptr) return nullptr;
    const auto found = view_.told->find(pod.uid);
    return found == view_.told->end() ? nullptr : &found->second;
  }

  void find_faults() {
    for (const auto& [name, pod] : *view_.pods) {
      const auto policy = policy_of_.find(name);
      if (policy == policy_of_.end()) continue;
      const auto node = view_.nodes->find(pod.node);
      const Duration unready_after = duration_of(policy->second->policy->spec.step_timeout());
      const auto events = view_.events->find(pod.uid);
      if (starts_slowly(pod, view_.now)) read_events(pod);
      std::optional<PodFault> fault = find_fault(
          pod, node == view_.nodes->end() ? nullptr : &node->second,
          events == view_.events->end() ? nullptr : &events->second, view_.now, unready_after);
      if (fault) faults_[name] = std::move(*fault);
    }
  }

  void read_events(const PodFacts& pod) {
    const auto known = view_.events->find(pod.uid);
    const bool fresh =
        known != view_.events->end() &&
        view_.now - known->second.read_at < std::chrono::milliseconds(pod_events_age_ms_max);
    if (!fresh) plan_.actions.push_back(ReadPodEvents{.pod = pod.name, .uid = pod.uid});
  }

  void keep_drain(const PolicyState& state) {
    const PolicyRecord& policy = *state.policy;
    PolicyMemory& memory = memory_[policy.name];
    if (!policy.spec.has_drain()) {
      if (policy.status.disruption_budget().empty() || memory.drain_ended) return;
      return plan_.actions.push_back(
          EndDrain{.policy = policy.name, .budget = policy.status.disruption_budget()});
    }
    memory.drain_ended = false;
    const bool fresh =
        memory.drain_kept_at && memory.drain_generation == policy.generation &&
        view_.now - *memory.drain_kept_at < std::chrono::milliseconds(drain_keep_again_ms);
    if (fresh) return;
    memory.drain_kept_at = view_.now;
    memory.drain_generation = policy.generation;
    plan_.actions.push_back(KeepDrain{.policy = policy.name,
                                      .policy_uid = policy.uid,
                                      .min_available = policy.spec.drain().min_available(),
                                      .selector = policy.spec.selector()});
  }

  PolicyState* state_named(const std::string& name) {
    const auto found = std::ranges::find_if(
        states_, [&](const PolicyState& state) { return state.policy->name == name; });
    return found == states_.end() ? nullptr : &*found;
  }

  // Past steps stand in the Incidents: the budget outlives this process. One that is intended
  // counts for as long as it is, for it may be done at any moment; one that was done counts from
  // then on.
  bool counts(const v1alpha1::IncidentStep& step, Duration window) const {
    if (!disturbs(step.name()) || step.state() == "skipped") return false;
    if (step.state() == "intended") return true;
    const auto ended = parse_time(step.ended_at());
    return ended && view_.now - *ended < window;
  }

  void count_steps() {
    for (const auto& [name, incident] : *view_.incidents) {
      PolicyState* state = state_named(incident.spec.policy());
      if (state == nullptr) continue;
      if (is_open(incident)) ++state->open;
      const Duration window = duration_of(state->policy->spec.budgets().window());
      for (const v1alpha1::IncidentStep& step : incident.status.steps()) {
        if (counts(step, window)) ++state->steps_in_window;
      }
    }
  }

  // Back a moment ago; one that is new was never away.
  bool settles(const NodeFacts& node) const {
    constexpr std::chrono::milliseconds settle{nodes_settle_ms};
    return node.ready && node.since && view_.now - *node.since < settle && node.created_at &&
           *node.since - *node.created_at > settle;
  }

  std::string lost_nodes() const {
    const auto lost = std::ranges::count_if(*view_.nodes, [this](const auto& node) {
      return !node.second.ready || settles(node.second);
    });
    const auto all = static_cast<int64_t>(view_.nodes->size());
    if (lost < 2 || lost * 100 <= all * nodes_lost_percent_max) return {};
    return std::to_string(lost) + " of " + std::to_string(all) +
           " nodes are not ready, or were not a moment ago: that is no fault of their pods";
  }

  void set_hold(PolicyState& state) {
    const v1alpha1::HealingPolicySpec& spec = state.policy->spec;
    const int sick = state.pods - state.ready;
    // One that is sick may always be healed, or a single replica never would be.
    const int allowed =
        std::max(1, state.pods * (100 - spec.budgets().min_healthy_percent()) / 100);
    std::optional<WallTime>& sick_until = memory_[state.policy->name].sick_until;
    if (sick > allowed) sick_until = view_.now;
    const Duration cool_down = duration_of(spec.budgets().cool_down());
    if (!view_.out_of_date.empty()) {
      state.hold = view_.out_of_date;
    } else if (spec.paused()) {
      state.hold = "the policy is paused";
    } else if (std::string lost = lost_nodes(); !lost.empty()) {
      state.hold = std::move(lost);
    }
    if (sick > allowed) {
      state.crowd = std::to_string(sick) + " of " + std::to_string(state.pods) +
                    " pods are not ready: too many for healing one by one";
    } else if (sick_until && view_.now - *sick_until < cool_down) {
      state.crowd = "too many pods were not ready a moment ago: cooling down";
    }
  }

  void keep_reports() {
    if (view_.reports == nullptr) return;
    for (const auto& [key, told] : *view_.reports) {
      SidecarReport report = told;
      const auto pod = view_.pods->find(report.pod.name());
      if (pod != view_.pods->end() && pod->second.uid == report.pod.uid()) {
        report.pod.set_node(pod->second.node);
        report.pod.set_owner(pod->second.owner());
      }
      const auto policy = policy_of_.find(report.pod.name());
      std::optional<HealAction> action =
          keep_report(report, *view_.incidents,
                      policy == policy_of_.end() ? "" : policy->second->policy->name, view_.now);
      if (!action) {
        plan_.kept.push_back(key);
        continue;
      }
      const auto* update = std::get_if<UpdateIncident>(&*action);
      // One at a time: each write goes by what was read.
      const bool is_first = written_
                                .insert(update != nullptr ? update->incident.name
                                                          : std::get<OpenIncident>(*action).name)
                                .second;
      if (is_first) plan_.actions.push_back(std::move(*action));
      settling_.insert(report.pod.uid());
    }
  }

  // Both may have seen the same in the same moment; the plan's ladder is climbed once.
  bool has_its_own(const std::string& uid, std::string_view kind) const {
    return std::ranges::any_of(*view_.incidents, [&](const auto& each) {
      const IncidentRecord& incident = each.second;
      return is_open(incident) && incident.spec.pod().uid() == uid && incident.spec.fault() == kind;
    });
  }

  // An open Incident of a sidecar's report, while its pod lives. False: it is in the sidecar's
  // hands.
  bool take_over(const IncidentRecord& incident, const PodFacts& pod,
                 std::optional<PodFault>& fault) {
    if (fault && has_its_own(pod.uid, to_string(fault->kind))) fault.reset();
    if (fault) {
      const auto beyond = fault_beyond_sidecar(incident, pod, fault);
      if (beyond) open_faults_.insert(pod.uid + "/" + std::string(to_string(fault->kind)));
    }
    fault = fault_beyond_sidecar(incident, pod, fault);
    return is_for_plan(incident, fault);
  }

  void plan_open(const IncidentRecord& incident) {
    const auto found = view_.pods->find(incident.spec.pod().name());
    const bool lives = found != view_.pods->end() && found->second.uid == incident.spec.pod().uid();
    const PodFacts* pod = lives ? &found->second : nullptr;
    std::optional<PodFault> fault;
    PolicyState* state = nullptr;
    if (pod != nullptr) {
      if (const auto seen = faults_.find(pod->name); seen != faults_.end()) fault = seen->second;
      if (const auto policy = policy_of_.find(pod->name); policy != policy_of_.end()) {
        state = policy->second;
      }
      if (pod->deleting) state = state_named(incident.spec.policy());
      if (is_sidecar_fault(incident.spec.fault())) {
        if (!take_over(incident, *pod, fault)) return;
      } else if (fault && to_string(fault->kind) != incident.spec.fault()) {
        // Another incident's: of two open ones of a pod, each waits for the pod to be well.
        state = nullptr;
      }
      open_faults_.insert(pod->uid + "/" + incident.spec.fault());
    } else {
      state = state_named(incident.spec.policy());
    }
    // What the kubelet says of its probes stands nowhere else.
    const bool by_probe = fault && fault->kind == FaultKind::kUnready;
    if (by_probe && !view_.events->contains(pod->uid)) read_events(*pod);
    std::vector<const PodFacts*> replacements;
    for (const auto& [name, other] : *view_.pods) {
      const bool same_owner = !other.owner_kind.empty() &&
                              other.owner() == incident.spec.pod().owner() &&
                              other.uid != incident.spec.pod().uid();
      if (same_owner && !other.deleting && !other.ended()) replacements.push_back(&other);
    }
    plan_incident(incident, pod, fault, {replacements, &taken_}, state, shared_, view_, plan_);
  }

  // Its steps may still count: it is kept for the window of the budget at least.
  void plan_ended(const IncidentRecord& incident) {
    Duration kept = std::chrono::hours(24);
    const Duration shared =
        std::max(view_.namespace_budget.window + view_.namespace_budget.cool_down,
                 view_.fleet_budget.window + view_.fleet_budget.cool_down);
    if (const PolicyState* state = state_named(incident.spec.policy()); state != nullptr) {
      const v1alpha1::HealingPolicySpec& spec = state->policy->spec;
      kept = std::max({duration_of(spec.incident_retention()), duration_of(spec.budgets().window()),
                       duration_of(spec.avoid_node_for()), shared});
    }
    const auto ended = parse_time(incident.status.ended_at());
    if (ended && view_.now - *ended < kept) return;
    plan_.actions.push_back(DeleteIncident{.name = incident.name, .uid = incident.uid});
  }

  void open_new_ones() {
    for (const auto& [name, fault] : faults_) {
      const PodFacts& pod = view_.pods->at(name);
      // Its Incident is being written: what is seen now may belong there.
      if (settling_.contains(pod.uid)) continue;
      const std::string key = pod.uid + "/" + std::string(to_string(fault.kind));
      if (open_faults_.contains(key)) continue;
      const auto before = std::ranges::count_if(*view_.incidents, [&](const auto& each) {
        const v1alpha1::IncidentSpec& spec = each.second.spec;
        return spec.pod().uid() == pod.uid && spec.fault() == to_string(fault.kind);
      });
      OpenIncident open;
      open.name = incident_name(pod, fault.kind, static_cast<int>(before));
      v1alpha1::PodReference& reference = *open.spec.mutable_pod();
      reference.set_name(pod.name);
      reference.set_uid(pod.uid);
      reference.set_node(pod.node);
      reference.set_owner(pod.owner());
      reference.set_revision(revision_of(pod));
      open.spec.set_container(fault.container);
      open.spec.set_fault(std::string(to_string(fault.kind)));
      open.spec.set_summary(fault.summary);
      open.spec.set_policy(policy_of_.at(name)->policy->name);
      open.spec.set_detected_at(format_time(view_.now));
      if (fault.began_at) open.spec.set_began_at(format_time(*fault.began_at));
      plan_.actions.push_back(std::move(open));
    }
  }

  // A drain waits for nobody: what its eviction finds is the last snapshot that there is.
  void ask_before_nodes_are_left() {
    for (const AgentFacts& agent : view_.agents) {
      const auto pod = std::ranges::find_if(
          *view_.pods, [&](const auto& each) { return each.second.uid == agent.pod_uid; });
      if (pod == view_.pods->end() || pod->second.deleting || pod->second.paused) continue;
      const auto state = policy_of_.find(pod->first);
      const auto node = view_.nodes->find(pod->second.node);
      if (state == policy_of_.end() || node == view_.nodes->end()) continue;
      const v1alpha1::HealingPolicySpec& spec = state->second->policy->spec;
      if (spec.paused() || spec.dry_run() || !view_.out_of_date.empty()) continue;
      auto ask = ask_before_leaving(pod->second, node->second, agent, view_.now);
      if (ask) plan_.actions.push_back(std::move(*ask));
    }
  }

  void report(PolicyState& state) {
    v1alpha1::HealingPolicyStatus status;
    status.set_observed_generation(state.policy->generation);
    status.set_pods(state.pods);
    status.set_ready_pods(state.ready);
    status.set_open_incidents(state.open);
    status.set_outdated_pods(state.outdated);
    if (state.policy->spec.has_drain()) {
      status.set_disruption_budget(drain_name(state.policy->name));
    } else if (!memory_[state.policy->name].drain_ended) {
      // Whoever forgot it could never take it away.
      status.set_disruption_budget(state.policy->status.disruption_budget());
    }
    status.set_hold(state.hold.empty() ? state.crowd : state.hold);
    const Duration avoid_for = duration_of(state.policy->spec.avoid_node_for());
    for (v1alpha1::AvoidedNode& node :
         avoided_nodes(*view_.incidents, state.policy->name, avoid_for, view_.now)) {
      *status.add_avoided_nodes() = std::move(node);
    }
    if (status.SerializeAsString() == state.policy->status.SerializeAsString()) return;
    plan_.actions.push_back(UpdatePolicy{.name = state.policy->name, .status = std::move(status)});
  }

  const NamespaceView& view_;
  std::map<std::string, PolicyMemory>& memory_;
  NamespacePlan plan_;
  std::vector<PolicyState> states_;
  SharedBudgets shared_;
  std::map<std::string, PolicyState*> policy_of_;  // by pod
  std::map<std::string, PodFault> faults_;         // by pod
  std::set<std::string> open_faults_;              // "uid/kind"
  std::set<std::string> settling_;  // UIDs of pods with a report that is not kept yet
  std::set<std::string> written_;   // Incidents that a report changes
  std::set<std::string> taken_;     // UIDs of pods that replace one already
};

}  // namespace

// Values of the injection (the sidecar's image, its resources) are those of the pod's making;
// others a sidecar may have been told since.
bool is_outdated(const PodFacts& pod, const PolicyRecord& policy, const ToldSettings* told) {
  if (!pod.has_sidecar || !policy.values) return false;
  const config::Annotations& wanted = policy.values->annotations;
  std::vector<std::string> differing;
  for (const auto& [key, value] : wanted) {
    const auto has = pod.annotations.find(key);
    const bool is_policys = has == pod.annotations.end() || pod.from_policy.contains(key);
    if (is_policys && (has == pod.annotations.end() || has->second != value)) {
      differing.push_back(key);
    }
  }
  for (const std::string& key : pod.from_policy) {
    if (!wanted.contains(key) && pod.annotations.contains(key)) differing.push_back(key);
  }
  const bool is_told = told != nullptr && told->all_in_force && told->policy == policy.name &&
                       told->generation == policy.generation;
  return !differing.empty() && (!is_told || std::ranges::any_of(differing, is_of_injection));
}

std::string drain_name(const std::string& policy) { return "remora-" + policy; }
std::string name_with_hash(const std::string& prefix, const std::string& text) {
  constexpr size_t prefix_characters_max = 200;
  return prefix.substr(0, prefix_characters_max) + "-" + short_hash(text);
}

NamespacePlan plan_namespace(const NamespaceView& view,
                             std::map<std::string, PolicyMemory>& memory) {
  return NamespacePlanner(view, memory).make();
}

}  // namespace remora::k8s
