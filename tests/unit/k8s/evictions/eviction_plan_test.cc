// Evictions of the Eviction API: a last snapshot while it is Remora's turn, and no longer.
#include "k8s/evictions/eviction_plan.h"

#include <nlohmann/json.hpp>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "k8s/inject/json_view.h"

namespace remora::k8s {
namespace {

using testing::IsEmpty;
using testing::SizeIs;
using namespace std::chrono_literals;

const WallTime began = *parse_time("2026-01-01T00:00:00Z");

// As the controller leaves it when it is our turn.
Json eviction() {
  return Json::parse(R"({
    "apiVersion": "lifecycle.k8s.io/v1alpha1", "kind": "Eviction",
    "metadata": {"name": "a-0-7x", "namespace": "shop", "uid": "e-1", "resourceVersion": "9"},
    "spec": {"target": {"pod": {"name": "a-0", "uid": "p-1"}}},
    "status": {
      "requesters": [{"name": "acme.io/drainer", "intent": "Eviction"}],
      "targetResponders": [
        {"name": "remora.dev/snapshot", "priority": 20000, "state": "Active"},
        {"name": "imperative-eviction.k8s.io/evictor", "priority": 100, "state": "Inactive"}],
      "responders": [
        {"name": "remora.dev/snapshot", "startTime": "2026-01-01T00:00:00Z"},
        {"name": "imperative-eviction.k8s.io/evictor"}]}})");
}

EvictionRecord record_of(const Json& body) { return *read_eviction(*make_object(body)); }

AgentFacts agent(const std::string& last_request = {}, bool busy = false) {
  return {.name = "claim.agent",
          .pod_uid = "p-1",
          .takes_snapshots = true,
          .last_request = last_request,
          .is_busy = busy};
}

Json entry_of(const EvictionPlan& plan) {
  return Json::parse(plan.status)["status"]["responders"][0];
}

TEST(EvictionPlanTest, IsNoneOfOursWithoutUsAmongTheResponders) {
  Json body = eviction();
  body["status"]["targetResponders"].erase(0);
  EXPECT_FALSE(read_eviction(*make_object(body)));
  body = eviction();
  body["spec"]["target"] = Json::object();
  EXPECT_FALSE(read_eviction(*make_object(body)));
  body = eviction();
  body.erase("status");
  EXPECT_FALSE(read_eviction(*make_object(body)));
}

TEST(EvictionPlanTest, NothingIsDoneWhileItIsNotOurTurn) {
  for (const char* state : {"Inactive", "Canceled", "Interrupted", "Completed"}) {
    Json body = eviction();
    body["status"]["targetResponders"][0]["state"] = state;
    const EvictionPlan plan = plan_eviction(record_of(body), {agent()}, began + 1s);
    EXPECT_THAT(plan.ask, IsEmpty()) << state;
    EXPECT_THAT(plan.status, IsEmpty()) << state;
  }
  Json body = eviction();
  body["status"]["responders"][0].erase("startTime");
  EXPECT_THAT(plan_eviction(record_of(body), {agent()}, began).status, IsEmpty());
}

TEST(EvictionPlanTest, EachAgentOfThePodIsAskedAndTheApiHearsOfIt) {
  AgentFacts stranger = agent();
  stranger.pod_uid = "p-2";
  AgentFacts without_store = agent();
  without_store.takes_snapshots = false;
  const EvictionPlan plan =
      plan_eviction(record_of(eviction()), {agent(), stranger, without_store}, began + 1s);
  ASSERT_THAT(plan.ask, SizeIs(1));
  EXPECT_EQ(plan.ask[0].agent, "claim.agent");
  EXPECT_EQ(plan.ask[0].id, "eviction-e-1");
  EXPECT_EQ(plan.ask[0].pod_uid, "p-1");
  EXPECT_EQ(entry_of(plan)["name"], "remora.dev/snapshot");
  EXPECT_EQ(entry_of(plan)["heartbeatTime"], "2026-01-01T00:00:01Z");
  EXPECT_FALSE(entry_of(plan).contains("completionTime"));
  EXPECT_TRUE(plan.look_again);
}

TEST(EvictionPlanTest, OneThatWasAskedIsNotAskedAgainAndHeartbeatsAreRare) {
  Json body = eviction();
  body["status"]["responders"][0]["heartbeatTime"] = "2026-01-01T00:00:01Z";
  const auto busy = agent("eviction-e-1", true);
  const EvictionPlan soon = plan_eviction(record_of(body), {busy}, began + 30s);
  EXPECT_THAT(soon.ask, IsEmpty());
  EXPECT_THAT(soon.status, IsEmpty());
  const EvictionPlan later = plan_eviction(record_of(body), {busy}, began + 61s);
  EXPECT_EQ(entry_of(later)["heartbeatTime"], "2026-01-01T00:01:01Z");
}

TEST(EvictionPlanTest, WhatSomebodyElseAskedForIsOverFirst) {
  const EvictionPlan plan = plan_eviction(record_of(eviction()), {agent("mine", true)}, began + 1s);
  EXPECT_THAT(plan.ask, IsEmpty());
  EXPECT_TRUE(plan.look_again);
  EXPECT_THAT(plan_eviction(record_of(eviction()), {agent("mine", false)}, began + 2s).ask,
              SizeIs(1));
}

TEST(EvictionPlanTest, CompletesOnceAllAreOver) {
  AgentFacts second = agent("eviction-e-1", true);
  second.name = "claim.second";
  const AgentFacts first = agent("eviction-e-1", false);
  EXPECT_FALSE(entry_of(plan_eviction(record_of(eviction()), {first, second}, began + 2s))
                   .contains("completionTime"));
  second.is_busy = false;
  const EvictionPlan plan = plan_eviction(record_of(eviction()), {first, second}, began + 3s);
  EXPECT_EQ(entry_of(plan)["completionTime"], "2026-01-01T00:00:03Z");
  EXPECT_FALSE(entry_of(plan).contains("heartbeatTime"));
  EXPECT_FALSE(plan.look_again);
}

// The API server refuses an apply that leaves out a time which an earlier one has set.
TEST(EvictionPlanTest, ATimeThatWasSetIsSaidAgain) {
  Json body = eviction();
  body["status"]["responders"][0]["heartbeatTime"] = "2026-01-01T00:00:01Z";
  const EvictionPlan plan =
      plan_eviction(record_of(body), {agent("eviction-e-1", false)}, began + 3s);
  EXPECT_EQ(entry_of(plan)["completionTime"], "2026-01-01T00:00:03Z");
  EXPECT_EQ(entry_of(plan)["heartbeatTime"], "2026-01-01T00:00:01Z");
}

TEST(EvictionPlanTest, NobodyToAskAndNobodyWhoAnswersHoldsAnEvictionUp) {
  EXPECT_THAT(entry_of(plan_eviction(record_of(eviction()), {}, began + 1s))["message"],
              "no agent of this pod keeps snapshots and is connected");
  const EvictionPlan late =
      plan_eviction(record_of(eviction()), {agent("eviction-e-1", true)}, began + 300s);
  EXPECT_THAT(entry_of(late)["message"], "gave up waiting for the last snapshot");
  EXPECT_TRUE(entry_of(late).contains("completionTime"));
}

TEST(EvictionPlanTest, WhatWeCompletedIsOver) {
  Json body = eviction();
  body["status"]["responders"][0]["completionTime"] = "2026-01-01T00:00:03Z";
  EXPECT_THAT(plan_eviction(record_of(body), {agent()}, began + 4s).status, IsEmpty());
}

TEST(EvictionPlanTest, TrimmingTakesNothingThatIsRead) {
  Json body = eviction();
  trim_eviction(body);
  EXPECT_FALSE(body["status"].contains("requesters"));
  EXPECT_TRUE(record_of(body).is_our_turn);
  for (Json odd : {Json(3), Json::array(), Json{{"status", 4}}}) trim_eviction(odd);
}

}  // namespace
}  // namespace remora::k8s
