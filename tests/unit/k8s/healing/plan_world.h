// A world for plans: what is decided takes effect at once, and time is the test's.
#pragma once

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
    view.out_of_date = out_of_date;
    view.now = now;
    return plan_namespace(view, memory);
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
  std::vector<std::string> evicted;
  std::vector<std::string> told;
  EvictOutcome next_outcome = EvictOutcome::kEvicted;
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
    if (next_outcome == EvictOutcome::kEvicted) {
      const std::string name = action.incident.spec.pod().name();
      const auto found = pods.find(name);
      if (found != pods.end() && found->second.uid == action.incident.spec.pod().uid()) {
        evicted.push_back(name);
        pods.erase(found);
      }
    }
    return act(after_eviction(action.incident, next_outcome, "said so", now));
  }
  bool act(const DeleteIncident& action) { return incidents.erase(action.name) > 0; }
  bool act(const UpdatePolicy& action) {
    policies[0].status = action.status;
    return false;
  }

  int lives_ = 0;
};

}  // namespace remora::k8s
