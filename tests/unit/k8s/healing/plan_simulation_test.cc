// Healing of one namespace through many seeded lives.
#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/k8s/healing/plan_world.h"

namespace remora::k8s {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t seeds = 10'000;

// Ten pods on four nodes through random lives: nodes come and go, pods crash and recover, evictions
// are refused, the operator starts anew. Nothing may be evicted beyond the rules, and every
// Incident ends once the world is well.
void live(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto chance = [&](int percent) { return static_cast<int>(random() % 100) < percent; };
  World world;
  world.set_policy(R"({"selector":{},"budgets":{"minHealthyPercent":50,"stepsMax":3,
                       "window":"10m","coolDown":"60s"},"incidentRetention":"1m"})");
  for (int i = 0; i < 10; ++i) {
    world.add_pod("a" + std::to_string(i), "n" + std::to_string(i % 4 + 1));
  }
  std::vector<WallTime> evictions;
  int made = 10;
  for (int turn = 0; turn < 40; ++turn) {
    if (chance(20)) {
      NodeFacts& node = world.nodes["n" + std::to_string(random() % 4 + 1)];
      node.ready = !node.ready;
      for (auto& [name, pod] : world.pods) {
        if (pod.node == node.name) pod.ready = node.ready;
      }
    }
    for (auto& [name, pod] : world.pods) {
      if (chance(5)) world.crash_loop(pod);
      if (chance(20) && world.nodes[pod.node].ready) {
        pod.ready = true;
        pod.containers.clear();
      }
    }
    if (chance(10)) world.memory.clear();
    world.next_outcome = chance(20) ? EvictOutcome::kRefused : EvictOutcome::kEvicted;
    const auto ready_before =
        std::ranges::count_if(world.pods, [](const auto& pod) { return pod.second.ready; });
    const size_t before = world.evicted.size();
    world.pass(std::chrono::seconds(random() % 60));
    const size_t now_evicted = world.evicted.size() - before;
    for (size_t i = 0; i < now_evicted; ++i) evictions.push_back(world.now);
    ASSERT_TRUE(now_evicted == 0 || ready_before >= 5) << "seed " << seed << ": too many were sick";
    const auto in_window =
        std::ranges::count_if(evictions, [&](WallTime at) { return world.now - at < 10min; });
    ASSERT_LE(in_window, 3) << "seed " << seed << ": over budget";
    // Owners make up for what is gone, somewhere that works.
    for (size_t i = world.pods.size(); i < 10; ++i) {
      world.add_pod("b" + std::to_string(made++), "n" + std::to_string(random() % 4 + 1));
    }
  }
  for (auto& [name, node] : world.nodes) node.ready = true;
  for (auto& [name, pod] : world.pods) {
    pod.ready = true;
    pod.containers.clear();
  }
  world.pass(10min);
  for (const auto& [name, incident] : world.incidents) {
    ASSERT_FALSE(incident.status.ended_at().empty()) << "seed " << seed << ": " << name;
  }
}

TEST(PlanSimulationTest, BudgetsHoldAndEveryIncidentEndsOverManyLives) {
  for (uint64_t seed = 1; seed <= seeds && !testing::Test::HasFatalFailure(); ++seed) live(seed);
}

}  // namespace
}  // namespace remora::k8s
