// A world for plans: what is decided takes effect at once, and time is the test's.
#pragma once

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "k8s/healing/plan.h"
#include "k8s/resources/message_json.h"

namespace remora::k8s {

// A namespace in which actions take effect as the API server and the cluster make them.
class World {
 public:
  World() {
    for (const char* name : {"n1", "n2", "n3", "n4"}) nodes[name] = NodeFacts{.name = name};
    add_policy(R"({"selector":{"matchLabels":{"app":"a"}}})");
  }
  void add_policy(const std::string& spec, const std::string& name = "p") {
    PolicyRecord policy;
    policy.name = name;
    const Result<void> read = read_message(Json::parse(spec), policy.spec);
    ASSERT_TRUE(read.has_value()) << read.error().message;
    policies.push_back(std::move(policy));
  }
  void set_policy(const std::string& spec) {
    policies.clear();
    add_policy(spec);
  }
  PodFacts& add_pod(const std::string& name, const std::string& node = "n1") {
    PodFacts pod;
    pod.namespace_name = "n";
    pod.name = name;
    pod.uid = "uid-" + name + std::to_string(++lives_);
    pod.resource_version = "1";
    pod.node = node;
    pod.owner_kind = "ReplicaSet";
    pod.owner_name = "rs";
    pod.labels = {{"app", "a"}};
    pod.phase = "Running";
    pod.ready = true;
    pod.created_at = pod.ready_since = now;
    return pods[name] = pod;
  }
  void crash_loop(PodFacts& pod) {
    pod.ready = false;
    pod.ready_since = now;
    pod.containers = {{.name = "agent",
                       .restarts = 5,
                       .waiting_reason = "CrashLoopBackOff",
                       .ended = Termination{.exit_code = 1, .reason = "Error", .ended_at = now}}};
  }
  void lose_node(const std::string& name) {
    nodes[name].ready = false;
    nodes[name].since = now;
    for (auto& [pod_name, pod] : pods) {
      if (pod.node == name) pod.ready = false;
    }
  }

  NamespacePlan look() {
    NamespaceView view;
    view.name = "n";
    view.pods = &pods;
    view.nodes = &nodes;
    view.policies = policies;
    view.incidents = &incidents;
    view.workloads = &workloads;
    view.events = &events;
    view.claims = &claims;
    view.agents = agents;
    view.namespace_budget = namespace_budget;
    view.fleet_budget = fleet_budget;
    view.fleet_steps = steps_taken(incidents, now);
    view.fleet_steps.insert(view.fleet_steps.end(), fleet_steps.begin(), fleet_steps.end());
    view.out_of_date = out_of_date;
    view.now = now;
    view.reports = &reports;
    NamespacePlan plan = plan_namespace(view, memory);
    for (const std::string& key : plan.kept) reports.erase(key);
    return plan;
  }
  // Looks and acts until nothing is left to do now.
  void settle() {
    for (int i = 0; i < 50; ++i) {
      bool did_something = false;
      for (const HealAction& action : look().actions) {
        did_something =
            std::visit([this](const auto& one) { return act(one); }, action) || did_something;
      }
      if (!did_something) return;
    }
    FAIL() << "looks never end";
  }
  void pass(Duration span) {
    now += span;
    settle();
  }

  const IncidentRecord* only() const {
    return incidents.size() == 1 ? &incidents.begin()->second : nullptr;
  }
  static std::string steps_of(const IncidentRecord& incident) {
    std::string text;
    for (const auto& step : incident.status.steps()) {
      text += (text.empty() ? "" : " ") + step.name() + ":" + step.state();
    }
    return text;
  }

  std::map<std::string, PodFacts> pods;
  std::map<std::string, NodeFacts> nodes;
  std::vector<PolicyRecord> policies;
  std::map<std::string, IncidentRecord> incidents;
  std::map<std::string, PolicyMemory> memory;
  std::map<std::string, WorkloadFacts> workloads;  // what has been read, by owner
  std::map<std::string, WorkloadFacts> readable;   // what would be
  std::map<std::string, SidecarReport> reports;
  std::vector<std::string> evicted;
  std::vector<std::string> told;
  std::map<std::string, PodEvents> events;            // what has been read, by UID
  std::map<std::string, PodEvents> readable_events;   // what would be, by name of the pod
  std::map<std::string, ClaimFacts> claims;           // what has been read, by name
  std::map<std::string, ClaimFacts> readable_claims;  // what would be
  std::vector<AgentFacts> agents;
  std::vector<AskAgent> asked;
  std::vector<std::string> fenced;  // pods, before they were evicted
  bool keeps_evicted = false;       // a lost node lets its pods' objects lie
  BudgetRule namespace_budget{100, std::chrono::minutes(10), {}};
  BudgetRule fleet_budget{100, std::chrono::minutes(10), {}};
  std::vector<WallTime> fleet_steps;     // of other namespaces
  std::vector<std::string> drains;       // "p 50%", "end remora-p"
  bool refuses_end_of_drain = false;     // the API server
  std::vector<std::string> rolled_back;  // "Deployment/agent to rs-1"
  std::vector<std::string> resized;      // "a agent 100663296"
  StepOutcome next_outcome = StepOutcome::kDone;
  std::string out_of_date;
  WallTime now = *parse_time("2026-01-01T00:00:00Z");

 private:
  bool act(const OpenIncident& action) {
    if (incidents.contains(action.name)) return false;
    IncidentRecord& incident = incidents[action.name];
    incident.name = action.name;
    incident.uid = "uid-" + action.name;
    incident.spec = action.spec;
    incident.status.set_phase("Open");
    return true;
  }
  bool act(const UpdateIncident& action) {
    IncidentRecord& incident = incidents.at(action.incident.name);
    const bool changes =
        incident.status.SerializeAsString() != action.incident.status.SerializeAsString();
    incident.status = action.incident.status;
    if (changes && !action.reason.empty()) told.push_back(action.reason);
    return changes;
  }
  bool act(const EvictPod& action) {
    if (next_outcome == StepOutcome::kDone) {
      const std::string name = action.incident.spec.pod().name();
      const auto found = pods.find(name);
      if (found != pods.end() && found->second.uid == action.incident.spec.pod().uid()) {
        if (action.is_cut_off) fenced.push_back(name);
        evicted.push_back(name);
        if (keeps_evicted) {
          found->second.deleting = true;
        } else {
          pods.erase(found);
        }
      }
    }
    return act(after_step(action.incident, next_outcome, "said so", now));
  }
  bool act(const RollBack& action) {
    rolled_back.push_back(action.workload.key() + " to " + action.target.name);
    WorkloadFacts& workload = readable.at(action.owner);
    workload.rolled_back.emplace_back(action.from, action.target.name);
    workloads.erase(action.owner);
    if (action.workload.kind == "StatefulSet") return true;
    return act(after_step(action.incident, StepOutcome::kDone, "", now));
  }
  bool act(const ResizePod& action) {
    PodFacts& pod = pods.at(action.incident.spec.pod().name());
    pod.containers.at(0).memory_limit_bytes = action.limit_bytes;
    resized.push_back(pod.name + " " + action.container + " " + std::to_string(action.limit_bytes));
    return act(after_step(action.incident, StepOutcome::kDone, "done", now));
  }
  bool act(const ReadWorkload& action) {
    const auto found = readable.find(action.owner());
    WorkloadFacts facts =
        found == readable.end() ? WorkloadFacts{.trouble = "not found"} : found->second;
    facts.read_at = now;
    workloads[action.owner()] = std::move(facts);
    return true;
  }
  bool act(const ReadPodEvents& action) {
    const auto found = readable_events.find(action.pod);
    PodEvents read = found == readable_events.end() ? PodEvents{} : found->second;
    read.read_at = now;
    events[action.uid] = std::move(read);
    return true;
  }
  bool act(const ReadClaims& action) {
    for (const std::string& name : action.names) {
      const auto found = readable_claims.find(name);
      ClaimFacts read =
          found == readable_claims.end() ? ClaimFacts{.trouble = "not found"} : found->second;
      read.read_at = now;
      claims[name] = std::move(read);
    }
    return true;
  }
  bool act(const AskAgent& action) {
    asked.push_back(action);
    for (AgentFacts& agent : agents) {
      if (agent.name != action.agent) continue;
      agent.last_request = action.id;
      agent.is_busy = true;
    }
    return true;
  }
  bool act(const KeepDrain& action) {
    drains.push_back(action.policy + " " + action.min_available);
    return false;
  }
  bool act(const EndDrain& action) {
    drains.push_back("end " + action.budget);
    if (refuses_end_of_drain) return false;
    memory[action.policy].drain_ended = true;
    return true;
  }
  bool act(const DeleteIncident& action) { return incidents.erase(action.name) > 0; }
  bool act(const UpdatePolicy& action) {
    const auto found = std::ranges::find(policies, action.name, &PolicyRecord::name);
    const bool changes = found->status.SerializeAsString() != action.status.SerializeAsString();
    found->status = action.status;
    return changes;
  }

  int lives_ = 0;
};

}  // namespace remora::k8s
