// Healing of one namespace through many seeded lives.
#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/k8s/healing/plan_world.h"

namespace remora::k8s {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t seeds = 10'000;
constexpr int pods_in_life = 10;
constexpr int turns_in_life = 20;
constexpr int64_t memory_limit_bytes_max = int64_t{256} << 20;

constexpr const char* policy_text = R"({"selector":{},
    "budgets":{"minHealthyPercent":50,"stepsMax":4,"window":"10m","coolDown":"60s"},
    "incidentRetention":"1m","stepTimeout":"60s","stableAfter":"0s",
    "memory":{"factorPercent":200,"bytesMax":"256MiB"},
    "ladders":[{"fault":"crash_loop","steps":["restart","roll_back","reprovision","reschedule","alert"]},
               {"fault":"out_of_memory","steps":["resize","resize","restore","reschedule","alert"]}]})";

// Ten pods of one Deployment on four nodes through random lives: nodes come and go, pods crash, run
// out of memory, wait for volumes and recover, sidecars come and go, do what they are asked or
// fail, bad revisions are rolled out, evictions are refused, other namespaces take from the fleet's
// budget, the operator starts anew.
class Life {
 public:
  explicit Life(uint64_t seed) : random_(seed) {
    world_.set_policy(policy_text);
    world_.namespace_budget = {.steps_max = 3, .window = 10min, .cool_down = 2min};
    world_.fleet_budget = {.steps_max = 5, .window = 10min, .cool_down = 2min};
    WorkloadFacts workload{.kind = "Deployment", .name = "agent", .uid = "u"};
    workload.current = "rs-0";
    workload.revisions = {{.name = "rs-0", .created_at = world_.now - 1h, .pod_template = "{}"}};
    workload_ = workload;
    for (int i = 0; i < pods_in_life; ++i) add_pod("a" + std::to_string(i));
  }

  void run() {
    for (int turn = 0; turn < turns_in_life && !testing::Test::HasFatalFailure(); ++turn) {
      disturb();
      const auto ready_before = count_ready();
      const size_t evicted_before = world_.evicted.size();
      lost_before_.clear();
      for (const auto& [name, pod] : world_.pods) {
        if (!world_.nodes[pod.node].ready) lost_before_.insert(name);
      }
      const size_t steps_before = steps();
      world_.pass(std::chrono::seconds(random_() % 60));
      check(ready_before, evicted_before, steps_before);
      follow();
    }
  }

  // Once the world is well, so is every Incident.
  void end() {
    for (auto& [name, node] : world_.nodes) {
      node.ready = true;
      node.leaving.clear();
    }
    for (auto& [name, pod] : world_.pods) make_well(pod);
    world_.pass(10min);
    for (const auto& [name, incident] : world_.incidents) {
      ASSERT_FALSE(incident.status.ended_at().empty()) << name;
    }
  }

 private:
  bool chance(int percent) { return static_cast<int>(random_() % 100) < percent; }
  size_t steps() const {
    return world_.evicted.size() + world_.rolled_back.size() + world_.resized.size() +
           ordered_.size();
  }
  int64_t count_ready() const {
    return std::ranges::count_if(world_.pods, [](const auto& pod) { return pod.second.ready; });
  }

  void add_pod(const std::string& name) {
    PodFacts& pod = world_.add_pod(name, "n" + std::to_string(random_() % 4 + 1));
    pod.owner_name = workload_.current;
    pod.labels["pod-template-hash"] = workload_.current.substr(3);
    std::erase_if(world_.agents, [&](const AgentFacts& each) { return each.name == name; });
    world_.agents.push_back({.name = name,
                             .pod_uid = pod.uid,
                             .container = "agent",
                             .takes_snapshots = chance(80),
                             .last_request = {},
                             .is_busy = false});
  }
  void make_well(PodFacts& pod) {
    pod.phase = "Running";
    pod.ready = true;
    pod.containers.clear();
    world_.readable_events.erase(pod.name);
    world_.events.erase(pod.uid);
  }

  // A revision that doesn't work: half of the pods are of it at once.
  void roll_out() {
    const std::string bad = "rs-" + std::to_string(++revisions_);
    workload_.revisions.insert(workload_.revisions.begin(),
                               {.name = bad, .created_at = world_.now, .pod_template = "{}"});
    workload_.current = bad;
    int moved = 0;
    for (auto& [name, pod] : world_.pods) {
      if (++moved % 2 == 0) continue;
      pod.owner_name = bad;
      pod.labels["pod-template-hash"] = bad.substr(3);
      world_.crash_loop(pod);
    }
  }

  void disturb() {
    if (chance(20)) {
      NodeFacts& node = world_.nodes["n" + std::to_string(random_() % 4 + 1)];
      node.ready = !node.ready;
      for (auto& [name, pod] : world_.pods) {
        if (pod.node == node.name) pod.ready = node.ready;
      }
    }
    if (chance(20)) {
      NodeFacts& node = world_.nodes["n" + std::to_string(random_() % 4 + 1)];
      node.leaving = node.leaving.empty() ? "it is cordoned" : "";
      if (!node.leaving.empty()) ++cordons_[node.name];
    }
    for (auto& [name, node] : world_.nodes) {
      if (node.leaving.empty()) node.last_open = world_.now;
    }
    for (AgentFacts& agent : world_.agents) {
      if (!agent.is_busy || chance(50)) continue;
      agent.is_busy = false;
      agent.last_failed = chance(30);
    }
    if (chance(10)) away_.swap(world_.agents);
    if (chance(3)) roll_out();
    for (auto& [name, pod] : world_.pods) {
      if (chance(5)) world_.crash_loop(pod);
      if (chance(3)) {
        world_.crash_loop(pod);
        pod.containers[0].ended->reason = "OOMKilled";
        pod.containers[0].memory_limit_bytes = int64_t{64} << 20;
        pod.containers[0].running = chance(50);
      }
      if (chance(2)) {
        pod.phase = "Pending";
        pod.ready = false;
        pod.containers.clear();
        world_.readable_events[name].events = {{.reason = "FailedMount", .message = "no"}};
      }
      if (chance(20) && world_.nodes[pod.node].ready) make_well(pod);
    }
    if (chance(10)) world_.fleet_steps.push_back(world_.now);
    if (chance(10)) world_.memory.clear();
    if (chance(10)) world_.workloads.clear();
    world_.readable.clear();
    for (const Revision& revision : workload_.revisions) {
      world_.readable["ReplicaSet/" + revision.name] = workload_;
    }
    world_.next_outcome = chance(20) ? StepOutcome::kHeld : StepOutcome::kDone;
  }

  void check(int64_t ready_before, size_t evicted_before, size_t steps_before) {
    const size_t evicted = world_.evicted.size() - evicted_before;
    for (size_t i = evicted_before; i < world_.evicted.size(); ++i) {
      const std::string& name = world_.evicted[i];
      const bool is_fenced = std::ranges::find(world_.fenced, name) != world_.fenced.end();
      ASSERT_TRUE(is_fenced || !lost_before_.contains(name)) << "moved without a fence: " << name;
    }
    for (; asked_seen_ < world_.asked.size(); ++asked_seen_) {
      const AskAgent& ask = world_.asked[asked_seen_];
      if (ask.action != "Snapshot") {
        ASSERT_TRUE(ordered_.insert(ask.id).second) << "asked twice: " << ask.id;
        // The snapshot that its node's cordon was worth is from before that.
        std::erase_if(asked_,
                      [&](const std::string& one) { return one.starts_with(ask.pod_uid + "/"); });
        continue;
      }
      const std::string node = ask.id.substr(7, 2);  // "cordon-n1-…"
      ASSERT_FALSE(world_.nodes[node].leaving.empty()) << ask.id;
      ASSERT_TRUE(asked_.insert(ask.pod_uid + "/" + std::to_string(cordons_[node])).second)
          << "asked twice for one cordon";
    }
    // One that is held may be carried out when the budget has moved on: it counted all the while.
    for (size_t i = steps_before; i < steps(); ++i) steps_at_.push_back(world_.now);
    ASSERT_TRUE(evicted == 0 || ready_before >= pods_in_life / 2) << "too many were sick";
    const auto in_window = [this](const std::vector<WallTime>& times) {
      return std::ranges::count_if(times, [&](WallTime at) { return world_.now - at < 10min; });
    };
    ASSERT_LE(in_window(steps_at_), 3) << "over the budget of the namespace";
    for (const std::string& resized : world_.resized) {
      ASSERT_LE(std::stoll(resized.substr(resized.rfind(' '))), memory_limit_bytes_max);
    }
  }

  // What the Deployment's controller does.
  void follow() {
    if (world_.rolled_back.size() > rollbacks_seen_) {
      const std::string& last = world_.rolled_back.back();
      const std::string good = last.substr(last.rfind(' ') + 1);
      ASSERT_TRUE(pairs_.insert(workload_.current + ">" + good).second) << "rolled back twice";
      workload_.rolled_back.emplace_back(workload_.current, good);
      std::erase_if(world_.pods,
                    [&](const auto& each) { return each.second.owner_name == workload_.current; });
      // As a new revision with the old template, of the same name and age.
      const auto found = std::ranges::find(workload_.revisions, good, &Revision::name);
      std::rotate(workload_.revisions.begin(), found, std::next(found));
      workload_.current = good;
      rollbacks_seen_ = world_.rolled_back.size();
    }
    while (world_.pods.size() < pods_in_life) add_pod("b" + std::to_string(made_++));
  }

  std::mt19937_64 random_;
  World world_;
  WorkloadFacts workload_;
  int revisions_ = 0;
  int made_ = 0;
  size_t rollbacks_seen_ = 0;
  std::set<std::string> pairs_;
  std::set<std::string> lost_before_;   // pods on nodes that are not ready, before a look
  std::map<std::string, int> cordons_;  // by node: how often it was
  std::set<std::string> asked_;         // "POD_UID/CORDON"
  size_t asked_seen_ = 0;
  std::set<std::string> ordered_;  // ids of restarts and restores
  std::vector<AgentFacts> away_;   // whose sidecars are not connected
  std::vector<WallTime> steps_at_;
};

TEST(PlanSimulationTest, BudgetsHoldAndEveryIncidentEndsOverManyLives) {
  for (uint64_t seed = 1; seed <= seeds && !testing::Test::HasFatalFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Life life(seed);
    life.run();
    if (!testing::Test::HasFatalFailure()) life.end();
  }
}

}  // namespace
}  // namespace remora::k8s
