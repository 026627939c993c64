// Plans for one namespace: which Incidents are opened, which steps are taken, and what holds them
// back.
#include "k8s/healing/plan.h"

#include <algorithm>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/k8s/healing/plan_world.h"

namespace remora::k8s {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using namespace std::chrono_literals;

class PlanTest : public testing::Test {
 protected:
  World world_;
};

TEST_F(PlanTest, WellPodsAreLeftAlone) {
  world_.add_pod("a");
  world_.settle();
  EXPECT_THAT(world_.incidents, IsEmpty());
  EXPECT_EQ(world_.policies[0].status.pods(), 1);
  EXPECT_EQ(world_.policies[0].status.ready_pods(), 1);
}

TEST_F(PlanTest, ACrashLoopIsOneIncidentThatWaitsAndThenAlerts) {
  world_.crash_loop(world_.add_pod("a"));
  world_.settle();
  ASSERT_NE(world_.only(), nullptr);
  EXPECT_EQ(world_.only()->spec.fault(), "crash_loop");
  EXPECT_EQ(world_.only()->spec.policy(), "p");
  EXPECT_EQ(World::steps_of(*world_.only()), "wait:done");
  world_.pass(5min);
  EXPECT_EQ(World::steps_of(*world_.only()), "wait:failed alert:done");
  EXPECT_EQ(world_.only()->status.phase(), "Alerted");
  world_.pass(1h);
  ASSERT_NE(world_.only(), nullptr) << "one fault, one Incident";
  EXPECT_THAT(world_.evicted, IsEmpty());
  world_.pods["a"].ready = true;
  world_.pods["a"].ready_since = world_.now;
  world_.pods["a"].containers[0] = {.name = "agent", .ready = true, .running = true};
  world_.pass(29s);
  EXPECT_EQ(world_.only()->status.phase(), "Alerted") << "it may crash again at once";
  world_.pass(1s);
  EXPECT_EQ(world_.only()->status.phase(), "Resolved");
  EXPECT_EQ(world_.only()->status.recovery_seconds(), 3'900);
}

TEST_F(PlanTest, APodOfALostNodeIsRescheduledAndItsReplacementEndsTheIncident) {
  world_.add_pod("a", "n1");
  world_.lose_node("n1");
  world_.settle();
  ASSERT_NE(world_.only(), nullptr);
  EXPECT_THAT(world_.evicted, testing::ElementsAre("a"));
  EXPECT_EQ(World::steps_of(*world_.only()), "reschedule:done");
  EXPECT_EQ(world_.only()->status.phase(), "Healing");
  PodFacts& replacement = world_.add_pod("b", "n2");
  replacement.ready = false;
  world_.pass(3s);
  EXPECT_EQ(world_.only()->status.phase(), "Healing") << "it isn't ready yet";
  replacement.ready = true;
  world_.pass(1s);
  EXPECT_EQ(world_.only()->status.phase(), "Resolved");
  EXPECT_EQ(World::steps_of(*world_.only()), "reschedule:verified");
  EXPECT_EQ(world_.only()->status.recovery_seconds(), 4);
}

TEST_F(PlanTest, AStepIsWrittenDownBeforeItIsDone) {
  world_.add_pod("a", "n1");
  world_.lose_node("n1");
  bool intended = false;
  for (int i = 0; i < 5 && !intended; ++i) {
    for (const HealAction& action : world_.look().actions) {
      ASSERT_FALSE(std::holds_alternative<EvictPod>(action)) << "done before it was written";
      if (const auto* open = std::get_if<OpenIncident>(&action)) {
        IncidentRecord& incident = world_.incidents[open->name];
        incident.name = open->name;
        incident.spec = open->spec;
      }
      if (const auto* update = std::get_if<UpdateIncident>(&action)) {
        world_.incidents[update->incident.name].status = update->incident.status;
        intended = World::steps_of(update->incident) == "reschedule:intended";
      }
    }
  }
  ASSERT_TRUE(intended);
  // An operator that starts now finds it, and does it.
  world_.memory.clear();
  world_.settle();
  EXPECT_THAT(world_.evicted, testing::ElementsAre("a"));
  EXPECT_EQ(World::steps_of(*world_.only()), "reschedule:done");
}

TEST_F(PlanTest, AStepWhoseWordWasLostWithTheOperatorCountsAsDone) {
  world_.add_pod("a", "n1");
  world_.lose_node("n1");
  world_.settle();
  IncidentRecord& incident = world_.incidents.begin()->second;
  incident.status.mutable_steps(0)->set_state("intended");
  incident.status.mutable_steps(0)->clear_ended_at();
  world_.memory.clear();
  world_.add_pod("b", "n2");
  world_.pass(1s);
  EXPECT_EQ(World::steps_of(incident), "reschedule:verified");
  EXPECT_EQ(steps_taken(world_.incidents, world_.now).size(), 1u) << "it was taken of the budget";
  EXPECT_THAT(world_.evicted, testing::ElementsAre("a"));
}

TEST_F(PlanTest, AnEvictionThatABudgetRefusesIsHeldAndTriedAgain) {
  world_.add_pod("a", "n1");
  world_.lose_node("n1");
  world_.next_outcome = StepOutcome::kHeld;
  world_.settle();
  EXPECT_EQ(world_.only()->status.phase(), "Held");
  EXPECT_EQ(world_.only()->status.hold(), "said so");
  world_.next_outcome = StepOutcome::kDone;
  world_.pass(10s);
  EXPECT_EQ(World::steps_of(*world_.only()), "reschedule:done");
  EXPECT_EQ(world_.only()->status.hold(), "");
}

TEST_F(PlanTest, SixtyPercentSickAtOnceAreLeftAloneUntilACoolDownAfterwards) {
  for (int i = 0; i < 10; ++i) {
    world_.add_pod("a" + std::to_string(i), i < 6 ? "n1" : "n2");
  }
  world_.lose_node("n1");
  world_.settle();
  EXPECT_EQ(world_.incidents.size(), 6u);
  world_.pass(1h);
  EXPECT_THAT(world_.evicted, IsEmpty());
  for (const auto& [name, incident] : world_.incidents) {
    EXPECT_EQ(incident.status.phase(), "Held");
    EXPECT_THAT(incident.status.hold(), HasSubstr("6 of 10"));
  }
  // Flapping: well for less than the cool-down, and sick again.
  for (int i = 0; i < 5; ++i) {
    world_.pods["a0"].node = "n2";
    world_.pods["a0"].ready = true;
    world_.pass(30s);
    EXPECT_THAT(world_.evicted, IsEmpty()) << "cooling down";
    world_.pods["a0"].node = "n1";
    world_.pods["a0"].ready = false;
    world_.pass(30s);
    EXPECT_THAT(world_.evicted, IsEmpty());
  }
  world_.pods["a0"].node = "n2";
  world_.pods["a0"].ready = true;
  world_.pass(30s);
  world_.pass(31s);
  EXPECT_EQ(world_.evicted.size(), 5u) << "half of them are well again, and the budget is five";
}

TEST_F(PlanTest, ABudgetOfStepsHoldsForItsWindow) {
  world_.set_policy(R"({"selector":{"matchLabels":{"app":"a"}},
                        "budgets":{"minHealthyPercent":0,"stepsMax":2,"window":"10m"}})");
  for (int i = 0; i < 4; ++i) world_.add_pod("a" + std::to_string(i), "n1");
  world_.lose_node("n1");
  world_.settle();
  EXPECT_EQ(world_.evicted.size(), 2u);
  world_.pass(9min);
  EXPECT_EQ(world_.evicted.size(), 2u);
  world_.pass(2min);
  EXPECT_EQ(world_.evicted.size(), 4u);
}

TEST_F(PlanTest, AnIncidentWhoseStepsStillCountIsKept) {
  world_.set_policy(R"({"selector":{},"incidentRetention":"1m",
                        "budgets":{"minHealthyPercent":0,"stepsMax":1,"window":"10m"}})");
  world_.add_pod("a", "n1");
  world_.lose_node("n1");
  world_.settle();
  world_.add_pod("b", "n2");
  world_.pass(1s);
  ASSERT_NE(world_.only(), nullptr);
  EXPECT_EQ(world_.only()->status.phase(), "Resolved");
  world_.pass(2min);
  world_.lose_node("n2");
  world_.settle();
  EXPECT_EQ(world_.evicted.size(), 1u) << "the budget was forgotten with the first Incident";
  EXPECT_EQ(world_.incidents.size(), 2u);
  world_.nodes["n1"].ready = true;
  world_.pass(9min);
  EXPECT_EQ(world_.evicted.size(), 2u);
  EXPECT_EQ(world_.incidents.size(), 1u);
}

TEST_F(PlanTest, ManyLostNodesAreTheControlPlanesOwnTrouble) {
  world_.set_policy(R"({"selector":{},"budgets":{"minHealthyPercent":0,"stepsMax":100}})");
  for (const char* node : {"n1", "n2", "n3"}) {
    world_.add_pod(std::string("on-") + node, node);
    world_.lose_node(node);
  }
  world_.pass(1h);
  EXPECT_THAT(world_.evicted, IsEmpty());
  EXPECT_THAT(world_.incidents.begin()->second.status.hold(), HasSubstr("3 of 4 nodes"));
  world_.nodes["n3"].ready = world_.pods["on-n3"].ready = true;
  world_.nodes["n3"].since = world_.now;
  world_.nodes["n3"].created_at = world_.now - 24h;
  world_.pass(59s);
  EXPECT_THAT(world_.evicted, IsEmpty()) << "the others may follow";
  world_.pass(2min);
  EXPECT_EQ(world_.evicted.size(), 2u) << "these two are lost by themselves";
}

TEST_F(PlanTest, AnOldPictureIsNotActedUpon) {
  world_.add_pod("a", "n1");
  world_.lose_node("n1");
  world_.out_of_date = "the watch has ended";
  world_.pass(1h);
  EXPECT_THAT(world_.evicted, IsEmpty());
  EXPECT_EQ(world_.only()->status.hold(), "the watch has ended");
  world_.out_of_date.clear();
  world_.settle();
  EXPECT_EQ(world_.evicted.size(), 1u);
}

TEST_F(PlanTest, APauseOfPodOrPolicyHoldsEverythingAndADryRunOnlyTells) {
  PodFacts& pod = world_.add_pod("a", "n1");
  pod.paused = true;
  world_.lose_node("n1");
  world_.pass(1h);
  EXPECT_THAT(world_.evicted, IsEmpty());
  EXPECT_THAT(world_.only()->status.hold(), HasSubstr("remora.dev/pause"));
  pod.paused = false;
  world_.set_policy(R"({"selector":{},"paused":true})");
  world_.pass(1h);
  EXPECT_THAT(world_.evicted, IsEmpty());
  EXPECT_EQ(world_.only()->status.hold(), "the policy is paused");
  world_.set_policy(R"({"selector":{},"dryRun":true})");
  world_.pass(1h);
  EXPECT_THAT(world_.evicted, IsEmpty());
  EXPECT_EQ(World::steps_of(*world_.only()), "reschedule:skipped alert:done");
  EXPECT_THAT(world_.told, testing::Contains("RemoraDryRun"));
}

TEST_F(PlanTest, WhatNobodyWouldMakeAgainIsNeverTakenAway) {
  world_.add_pod("bare").owner_kind.clear();
  world_.add_pod("daemon").owner_kind = "DaemonSet";
  world_.set_policy(R"({"selector":{},"budgets":{"minHealthyPercent":0}})");
  world_.lose_node("n1");
  world_.pass(1h);
  EXPECT_THAT(world_.evicted, IsEmpty());
  ASSERT_EQ(world_.incidents.size(), 2u);
  for (const auto& [name, incident] : world_.incidents) {
    EXPECT_EQ(World::steps_of(incident), "reschedule:skipped alert:done");
  }
}

TEST_F(PlanTest, PodsWithoutAPolicyAreNobodysBusiness) {
  world_.set_policy(R"({"selector":{"matchExpressions":[
      {"key":"app","operator":"In","values":["b","c"]}]}})");
  world_.crash_loop(world_.add_pod("a"));
  world_.pass(1h);
  EXPECT_THAT(world_.incidents, IsEmpty());
}

TEST_F(PlanTest, TheSameFaultAgainIsAnotherIncidentAndOldOnesAreDeleted) {
  for (int i = 0; i < 3; ++i) {
    world_.crash_loop(i == 0 ? world_.add_pod("a") : world_.pods["a"]);
    world_.settle();
    EXPECT_EQ(world_.incidents.size(), static_cast<size_t>(i) + 1);
    world_.pods["a"].ready = true;
    world_.pods["a"].containers.clear();
    world_.pass(1min);
  }
  world_.pass(23h);
  EXPECT_EQ(world_.incidents.size(), 3u);
  world_.pass(2h);
  EXPECT_THAT(world_.incidents, IsEmpty());
}

TEST_F(PlanTest, AnIncidentOfAPodThatIsDeletedForGoodEnds) {
  world_.crash_loop(world_.add_pod("a"));
  world_.settle();
  world_.pods.clear();
  world_.pass(1min);
  EXPECT_TRUE(world_.only()->status.ended_at().empty());
  world_.pass(5min);
  EXPECT_EQ(world_.only()->status.phase(), "Resolved");
}

TEST_F(PlanTest, EachReplacementEndsOneIncident) {
  for (int i = 0; i < 4; ++i) world_.add_pod("a" + std::to_string(i), i < 2 ? "n1" : "n2");
  // Long before: pods of the very second of the fault could be replacements.
  world_.pass(1h);
  world_.lose_node("n1");
  world_.settle();
  EXPECT_EQ(world_.evicted.size(), 2u);
  const auto resolved = [&] {
    return std::ranges::count_if(world_.incidents, [](const auto& incident) {
      return incident.second.status.phase() == "Resolved";
    });
  };
  world_.add_pod("b0", "n2");
  world_.pass(1s);
  world_.pass(1s);
  EXPECT_EQ(resolved(), 1);
  world_.add_pod("b1", "n2");
  world_.pass(1s);
  EXPECT_EQ(resolved(), 2);
}

TEST_F(PlanTest, AReplacementThatIsNotReadyInTimeIsAlertedAndMayStillCome) {
  world_.add_pod("a", "n1");
  world_.lose_node("n1");
  world_.settle();
  world_.add_pod("b", "n2").ready = false;
  world_.pods["b"].phase = "Pending";
  world_.pass(6min);
  const auto& incident = world_.incidents.begin()->second;
  EXPECT_EQ(World::steps_of(incident), "reschedule:done alert:done");
  EXPECT_EQ(incident.status.phase(), "Alerted");
  world_.pods["b"].ready = true;
  world_.pass(1s);
  EXPECT_EQ(incident.status.phase(), "Resolved");
}

TEST_F(PlanTest, AnOwnerThatWasMadeSmallerEndsTheIncident) {
  world_.crash_loop(world_.add_pod("a"));
  world_.add_pod("b", "n2");
  world_.settle();
  world_.pass(10s);
  world_.pods.erase("a");
  world_.pods["b"].created_at = world_.now - 1h;
  world_.pass(1min);
  EXPECT_EQ(world_.only()->status.phase(), "Healing");
  world_.pass(5min);
  EXPECT_EQ(world_.only()->status.phase(), "Resolved");
}

TEST_F(PlanTest, PodsThatAreLeavingAreNotCountedAsSick) {
  world_.add_pod("a", "n1");
  world_.add_pod("b", "n2");
  for (const char* name : {"x", "y", "z"}) {
    PodFacts& leaving = world_.add_pod(name, "n2");
    leaving.deleting = true;
    leaving.ready = false;
  }
  world_.settle();
  EXPECT_EQ(world_.policies[0].status.pods(), 2);
  EXPECT_EQ(world_.policies[0].status.hold(), "");
}

}  // namespace
}  // namespace remora::k8s
