// Budgets that policies share.
#include "k8s/healing/budgets.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/k8s/healing/plan_world.h"

namespace remora::k8s {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using namespace std::chrono_literals;

constexpr BudgetRule rule{.steps_max = 2, .window = 10min, .cool_down = 5min};
const WallTime start = *parse_time("2026-01-01T00:00:00Z");

TEST(BudgetsTest, ABudgetThatIsUsedUpHoldsForItsWindowAndCoolsDown) {
  EXPECT_EQ(budget_hold("x", rule, {}, start), "");
  EXPECT_EQ(budget_hold("x", rule, {start}, start), "");
  const std::vector<WallTime> storm = {start + 8min, start};
  EXPECT_THAT(budget_hold("x", rule, storm, start + 9min), HasSubstr("2 steps, is used up"));
  EXPECT_THAT(budget_hold("x", rule, storm, start + 11min), HasSubstr("cooling down"));
  EXPECT_EQ(budget_hold("x", rule, storm, start + 13min), "");
  // Two that were far apart never used it up.
  EXPECT_EQ(budget_hold("x", rule, {start, start + 10min}, start + 11min), "");
  EXPECT_THAT(budget_hold("x", {.steps_max = 0}, {}, start), HasSubstr("used up"));
}

IncidentRecord with_step(const std::string& name, const std::string& state, WallTime ended) {
  IncidentRecord incident;
  v1alpha1::IncidentStep& step = *incident.status.add_steps();
  step.set_name(name);
  step.set_state(state);
  if (state != "intended") step.set_ended_at(format_time(ended));
  return incident;
}

TEST(StepLedgerTest, KeepsWhatCountsAsTheIncidentsChange) {
  StepLedger ledger;
  ledger.put("n/a", with_step("reschedule", "intended", start));
  EXPECT_THAT(ledger.taken(rule, start + 1min), ElementsAre(start + 1min)) << "as now";
  ledger.put("n/a", with_step("reschedule", "done", start + 2min));
  ledger.put("m/a", with_step("resize", "failed", start + 2min));
  ledger.put("n/b", with_step("reschedule", "skipped", start));
  ledger.put("n/c", with_step("wait", "done", start));
  EXPECT_THAT(ledger.taken(rule, start + 3min), ElementsAre(start + 2min, start + 2min));
  ledger.remove("m/a");
  ledger.remove("nobody");
  EXPECT_THAT(ledger.taken(rule, start + 17min), ElementsAre(start + 2min)) << "window + cool-down";
  EXPECT_THAT(ledger.taken(rule, start + 18min), testing::IsEmpty());
}

TEST(BudgetsTest, TheNamespacesAndTheFleetsHoldBeyondAPolicys) {
  World world;
  world.set_policy(R"({"selector":{},"budgets":{"minHealthyPercent":0,"stepsMax":100}})");
  world.namespace_budget = {.steps_max = 3, .window = 10min, .cool_down = 0s};
  for (int i = 0; i < 5; ++i) world.add_pod("a" + std::to_string(i), "n1");
  world.lose_node("n1");
  world.settle();
  EXPECT_EQ(world.evicted.size(), 3u);
  world.namespace_budget.steps_max = 100;
  world.fleet_budget = {.steps_max = 4, .window = 10min, .cool_down = 0s};
  world.fleet_steps = {world.now};
  world.pass(1s);
  EXPECT_EQ(world.evicted.size(), 3u) << "another namespace has taken one";
  world.fleet_steps.clear();
  world.pass(1s);
  EXPECT_EQ(world.evicted.size(), 4u);
}

TEST(VolumesTest, APodThatCanNotGetItsVolumeIsNotMovedAndTheWaitIsExplained) {
  World world;
  PodFacts& pod = world.add_pod("a");
  pod.phase = "Pending";
  pod.ready = false;
  world.readable_events["a"].events = {
      {.reason = "FailedAttachVolume", .message = "Multi-Attach error", .last_at = world.now}};
  world.pass(19s);
  EXPECT_TRUE(world.incidents.empty()) << "volumes take their time";
  world.pass(1s);
  ASSERT_NE(world.only(), nullptr);
  EXPECT_EQ(world.only()->spec.fault(), "volume_error");
  EXPECT_THAT(world.only()->spec.summary(), HasSubstr("out-of-service"));
  world.pass(10min);
  EXPECT_EQ(World::steps_of(*world.only()), "wait:failed alert:done");
  EXPECT_TRUE(world.evicted.empty());
}

TEST(VolumesTest, AClaimOfAPodOnALostNodeIsNamed) {
  World world;
  world.add_pod("a", "n1").claims = {"state"};
  world.lose_node("n1");
  world.settle();
  EXPECT_THAT(world.only()->status.evidence(), testing::Contains(HasSubstr("volume claim state")));
}

TEST(VolumesTest, WhatTheKubeletSaysOfItsProbesIsEvidence) {
  World world;
  PodFacts& pod = world.add_pod("a");
  pod.ready = false;
  world.readable_events["a"].events = {
      {.reason = "Unhealthy", .message = "Readiness probe failed: 500", .last_at = world.now}};
  world.pass(6min);
  world.pass(6min);
  EXPECT_THAT(world.only()->status.evidence(), testing::Contains("Readiness probe failed: 500"));
}

TEST(DrainTest, ADisruptionBudgetIsKeptAsLongAsThePolicyWantsIt) {
  World world;
  world.set_policy(R"({"selector":{},"drain":{"minAvailable":"50%"}})");
  world.settle();
  EXPECT_THAT(world.drains, ElementsAre("p 50%"));
  world.pass(1min);
  EXPECT_EQ(world.drains.size(), 1u);
  world.pass(10min);
  EXPECT_EQ(world.drains.size(), 2u) << "somebody may have deleted it";
  EXPECT_EQ(world.policies[0].status.disruption_budget(), "remora-p");
  const auto status = world.policies[0].status;
  world.set_policy(R"({"selector":{}})");
  world.policies[0].status = status;
  world.refuses_end_of_drain = true;
  world.settle();
  EXPECT_EQ(world.drains.back(), "end remora-p");
  EXPECT_EQ(world.policies[0].status.disruption_budget(), "remora-p") << "not forgotten yet";
  world.refuses_end_of_drain = false;
  world.settle();
  EXPECT_EQ(world.policies[0].status.disruption_budget(), "");
}

}  // namespace
}  // namespace remora::k8s
