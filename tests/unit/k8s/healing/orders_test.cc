// Steps that the pod's own sidecar carries out: restart and restore.
#include "k8s/healing/orders.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/k8s/healing/plan_world.h"

namespace remora::k8s {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using namespace std::chrono_literals;

class OrdersTest : public testing::Test {
 protected:
  OrdersTest() {
    world_.set_policy(R"({"selector":{},"stepTimeout":"60s","stableAfter":"10s","ladders":[
        {"fault":"crash_loop","steps":["restart","restore","alert"]},
        {"fault":"node_unready","steps":["restart","alert"]}]})");
  }
  AgentFacts& add_agent(const std::string& pod, const std::string& container = "agent") {
    return world_.agents.emplace_back(AgentFacts{.name = pod + "." + container,
                                                 .pod_uid = world_.pods.at(pod).uid,
                                                 .container = container,
                                                 .takes_snapshots = true,
                                                 .last_request = {}});
  }
  // What is under way with every agent ends so.
  void answer(bool failed, const std::string& message) {
    for (AgentFacts& agent : world_.agents) {
      if (!agent.is_busy) continue;
      agent.is_busy = false;
      agent.last_failed = failed;
      agent.last_message = message;
    }
  }
  void make_well(const std::string& name) {
    PodFacts& pod = world_.pods.at(name);
    pod.ready = true;
    pod.ready_since = world_.now;
    pod.containers.clear();
  }
  std::vector<std::string> asked() const {
    std::vector<std::string> all;
    for (const AskAgent& one : world_.asked) all.push_back(one.action + " " + one.agent);
    return all;
  }
  const IncidentRecord& incident() const { return *world_.only(); }
  std::string steps() const { return World::steps_of(incident()); }

  World world_;
};

TEST_F(OrdersTest, ARestartIsAskedOnceAndVerifiedByThePod) {
  world_.crash_loop(world_.add_pod("a"));
  add_agent("a");
  world_.settle();
  EXPECT_THAT(asked(), ElementsAre("Restart a.agent"));
  EXPECT_EQ(world_.asked[0].id, incident().name + "-1");
  EXPECT_EQ(steps(), "restart:intended");
  world_.pass(10s);
  world_.memory.clear();
  world_.pass(10s);
  EXPECT_THAT(asked(), SizeIs(1)) << "it is under way, also for a new leader";
  make_well("a");
  world_.pass(11s);
  EXPECT_EQ(steps(), "restart:intended") << "its outcome is awaited, although the pod is well";
  answer(false, "the agent is ready again");
  world_.pass(1s);
  EXPECT_EQ(steps(), "restart:verified");
  EXPECT_EQ(incident().status.steps(0).message(),
            "agent: the agent is ready again; the pod is ready");
  EXPECT_EQ(incident().status.phase(), "Resolved");
  EXPECT_THAT(world_.told, ElementsAre("RemoraRestart", "RemoraRestarted", "RemoraResolved"));
}

TEST_F(OrdersTest, WhatFailsOrDoesNotHelpIsFollowedByTheNextStep) {
  world_.crash_loop(world_.add_pod("a"));
  add_agent("a");
  world_.settle();
  answer(true, "the agent ended at once");
  world_.settle();
  EXPECT_EQ(steps(), "restart:failed restore:intended");
  EXPECT_EQ(incident().status.steps(0).message(), "agent: the agent ended at once");
  EXPECT_EQ(world_.asked[1].id, incident().name + "-2");
  answer(false, "restored");
  world_.settle();
  EXPECT_EQ(steps(), "restart:failed restore:done");
  world_.pass(61s);
  EXPECT_EQ(steps(), "restart:failed restore:failed alert:done");
  EXPECT_THAT(asked(), ElementsAre("Restart a.agent", "Restore a.agent"));
}

TEST_F(OrdersTest, WhatIsNotAnsweredInTimeHasFailed) {
  world_.crash_loop(world_.add_pod("a"));
  add_agent("a");
  world_.settle();
  world_.agents.clear();
  world_.pass(59s);
  EXPECT_EQ(steps(), "restart:intended") << "its sidecar may come back";
  world_.pass(1s);
  EXPECT_EQ(steps(), "restart:failed restore:skipped alert:done");
  EXPECT_THAT(incident().status.steps(1).message(), HasSubstr("no sidecar of the pod"));
}

TEST_F(OrdersTest, ARequestOfSomebodyElseIsCarriedOutFirst) {
  world_.crash_loop(world_.add_pod("a"));
  AgentFacts& agent = add_agent("a");
  agent.last_request = "by-hand";
  agent.is_busy = true;
  world_.pass(5s);
  EXPECT_THAT(asked(), IsEmpty());
  agent.is_busy = false;
  world_.pass(5s);
  EXPECT_THAT(asked(), SizeIs(1));
}

TEST_F(OrdersTest, OnlyWhoCanDoItIsAsked) {
  world_.crash_loop(world_.add_pod("a"));
  world_.add_pod("b");
  add_agent("b");
  world_.settle();
  EXPECT_EQ(steps(), "restart:skipped restore:skipped alert:done");
  world_.incidents.clear();
  add_agent("a").takes_snapshots = false;
  add_agent("a", "tool");
  world_.settle();
  EXPECT_THAT(asked(), ElementsAre("Restart a.agent")) << "the container that is at fault";
  answer(true, "no");
  world_.settle();
  EXPECT_EQ(steps(), "restart:failed restore:skipped alert:done");
  EXPECT_THAT(incident().status.steps(1).message(), HasSubstr("remora.dev/state-dir"));
}

TEST_F(OrdersTest, WhereNoAgentIsAtFaultAllOfThePodsAreAsked) {
  PodFacts& pod = world_.add_pod("a");
  world_.crash_loop(pod);
  pod.containers[0].name = "other";
  add_agent("a");
  add_agent("a", "tool");
  world_.settle();
  EXPECT_THAT(asked(), ElementsAre("Restart a.agent", "Restart a.tool"));
  world_.agents[0].is_busy = false;
  world_.agents[0].last_message = "ready";
  world_.settle();
  EXPECT_EQ(steps(), "restart:intended") << "one of two";
  answer(true, "it hangs");
  world_.settle();
  EXPECT_EQ(incident().status.steps(0).state(), "failed");
  EXPECT_EQ(incident().status.steps(0).message(), "agent: ready; tool: it hangs");
}

TEST_F(OrdersTest, NothingIsAskedOfALostNode) {
  world_.add_pod("a", "n1");
  add_agent("a");
  world_.lose_node("n1");
  world_.settle();
  EXPECT_THAT(asked(), IsEmpty());
  EXPECT_EQ(steps(), "restart:skipped alert:done");
}

TEST_F(OrdersTest, HeldWhereNothingMayBeDoneAndForgottenOnceThePodIsWell) {
  PodFacts& pod = world_.add_pod("a");
  world_.crash_loop(pod);
  add_agent("a");
  pod.paused = true;
  world_.settle();
  EXPECT_EQ(incident().status.phase(), "Held");
  world_.pods.at("a").paused = false;
  world_.agents[0].is_busy = true;  // with what somebody else has asked for
  world_.settle();
  EXPECT_EQ(steps(), "restart:intended");
  make_well("a");
  world_.pass(11s);
  EXPECT_EQ(steps(), "restart:failed");
  EXPECT_EQ(incident().status.phase(), "Resolved");
  EXPECT_THAT(asked(), IsEmpty());
}

TEST_F(OrdersTest, ItCountsInTheBudget) {
  world_.set_policy(R"({"selector":{},"budgets":{"minHealthyPercent":0,"stepsMax":1},
      "ladders":[{"fault":"crash_loop","steps":["restart","alert"]}]})");
  for (const char* name : {"a", "b"}) {
    world_.crash_loop(world_.add_pod(name));
    add_agent(name);
  }
  world_.settle();
  EXPECT_THAT(asked(), SizeIs(1));
}

}  // namespace
}  // namespace remora::k8s
