// Pods of lost nodes and of nodes that are about to be emptied: fenced, their volumes awaited, a
// snapshot in time, and their successors elsewhere.
#include "k8s/healing/leaving.h"

#include <nlohmann/json.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/k8s/healing/plan_world.h"

namespace remora::k8s {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using namespace std::chrono_literals;

class LeavingTest : public testing::Test {
 protected:
  void add_agent(const std::string& pod) {
    world_.agents.push_back({.name = pod + ".agent",
                             .pod_uid = world_.pods.at(pod).uid,
                             .takes_snapshots = true,
                             .last_request = {},
                             .is_busy = false});
  }
  void cordon(const std::string& node) { world_.nodes[node].leaving = "it is cordoned"; }
  void uncordon(const std::string& node) {
    world_.nodes[node].leaving.clear();
    world_.nodes[node].last_open = world_.now;
  }
  void answer() {
    for (AgentFacts& agent : world_.agents) agent.is_busy = false;
  }
  std::vector<std::string> asked() const {
    std::vector<std::string> names;
    for (const AskAgent& one : world_.asked) names.push_back(one.agent);
    return names;
  }

  World world_;
};

TEST_F(LeavingTest, OnlyAPodThatCannotBeAskedIsFenced) {
  world_.add_pod("a", "n1");
  world_.lose_node("n1");
  world_.settle();
  EXPECT_THAT(world_.fenced, ElementsAre("a"));
  World well;
  well.set_policy(R"({"selector":{},"ladders":[{"fault":"crash_loop","steps":["reschedule"]}]})");
  well.add_pod("b", "n2");
  well.crash_loop(well.add_pod("a", "n1"));
  well.settle();
  EXPECT_THAT(well.evicted, ElementsAre("a"));
  EXPECT_THAT(well.fenced, IsEmpty()) << "its last snapshot is wanted";
}

TEST_F(LeavingTest, ASharedVolumeIsNoReasonToWait) {
  world_.add_pod("a", "n1").claims = {"state"};
  world_.readable_claims["state"] = {.modes = {"ReadWriteMany"}, .volume = "pv-1"};
  world_.lose_node("n1");
  world_.settle();
  EXPECT_THAT(world_.evicted, ElementsAre("a"));
  EXPECT_THAT(world_.only()->status.evidence(), Contains(HasSubstr("can use it at once")));
  EXPECT_EQ(world_.only()->status.phase(), "Healing");
}

TEST_F(LeavingTest, ADetachIsAwaitedAndSaidSo) {
  world_.keeps_evicted = true;
  world_.add_pod("a", "n1").claims = {"state"};
  world_.readable_claims["state"] = {
      .modes = {"ReadWriteOnce"}, .volume = "pv-1", .attached = {"n1"}};
  world_.lose_node("n1");
  world_.settle();
  EXPECT_THAT(world_.evicted, ElementsAre("a"));
  EXPECT_THAT(world_.only()->status.evidence(), Contains(HasSubstr("waits for the detach")));
  EXPECT_EQ(world_.only()->status.phase(), "Held");
  EXPECT_EQ(world_.only()->status.hold(), "waits for the detach of volume claim state from n1");
  world_.pass(1min);
  EXPECT_EQ(world_.only()->status.phase(), "Held");
  world_.readable_claims["state"].attached = {"n2"};
  world_.pass(11s);
  EXPECT_EQ(world_.only()->status.phase(), "Healing");
  EXPECT_EQ(world_.only()->status.hold(), "");
  world_.add_pod("b", "n2");
  world_.pass(1s);
  EXPECT_EQ(world_.only()->status.phase(), "Resolved");
}

TEST_F(LeavingTest, ADetachThatDoesNotComeIsRefusedClearly) {
  world_.keeps_evicted = true;
  PodFacts& pod = world_.add_pod("a-0", "n1");
  pod.claims = {"state-a-0"};
  pod.owner_kind = "StatefulSet";
  pod.owner_name = "a";
  world_.readable_claims["state-a-0"] = {
      .modes = {"ReadWriteOncePod"}, .volume = "pv-1", .attached = {"n1"}};
  world_.lose_node("n1");
  world_.settle();
  world_.pass(5min);
  const IncidentRecord* lost = nullptr;
  for (const auto& [name, incident] : world_.incidents) {
    if (incident.spec.fault() == "node_unready") lost = &incident;
  }
  ASSERT_NE(lost, nullptr);
  EXPECT_EQ(World::steps_of(*lost), "reschedule:done alert:done");
  const std::string& why = lost->status.steps(1).message();
  EXPECT_THAT(why, HasSubstr("its StatefulSet makes no other"));
  EXPECT_THAT(why, HasSubstr("waits for the detach of volume claim state-a-0 from n1"));
  EXPECT_THAT(why, HasSubstr("node.kubernetes.io/out-of-service"));
}

TEST(ClaimsTest, AreReadFromTheirObjectsWhateverTheyHold) {
  const ClaimFacts claim = read_claim(Json::parse(
      R"({"spec":{"volumeName":"pv-1","accessModes":["ReadWriteOnce","ReadOnlyMany",7]}})"));
  EXPECT_EQ(claim.volume, "pv-1");
  EXPECT_THAT(claim.modes, ElementsAre("ReadWriteOnce", "ReadOnlyMany"));
  EXPECT_TRUE(claim.is_shared());
  EXPECT_FALSE(read_claim(Json::parse("[]")).is_shared());
  const Json attachments = Json::parse(R"({"items":[
      {"spec":{"nodeName":"n1","source":{"persistentVolumeName":"pv-1"}}},
      {"spec":{"nodeName":"n2","source":{"persistentVolumeName":"pv-2"}}}, 5]})");
  EXPECT_THAT(attached_to("pv-1", attachments), ElementsAre("n1"));
  EXPECT_THAT(attached_to("", attachments), IsEmpty());
  EXPECT_THAT(attached_to("pv-1", Json::parse("{}")), IsEmpty());
}

TEST_F(LeavingTest, ACordonedNodesAgentsAreAskedForASnapshotOnce) {
  world_.add_pod("a", "n1");
  world_.add_pod("b", "n2");
  add_agent("a");
  add_agent("b");
  world_.settle();
  EXPECT_THAT(asked(), IsEmpty());
  cordon("n1");
  world_.settle();
  EXPECT_THAT(asked(), ElementsAre("a.agent"));
  EXPECT_EQ(world_.asked[0].id, "cordon-n1-1767225600");
  EXPECT_THAT(world_.asked[0].why, HasSubstr("node n1 is about to be emptied: it is cordoned"));
  world_.pass(10s);
  answer();
  world_.pass(1h);
  world_.memory.clear();
  world_.pass(1h);
  EXPECT_THAT(asked(), SizeIs(1)) << "it is the same cordon, also for a new leader";
  uncordon("n1");
  world_.pass(1min);
  cordon("n1");
  world_.pass(1s);
  EXPECT_THAT(asked(), SizeIs(2)) << "another cordon";
}

TEST_F(LeavingTest, ARequestOfSomebodyElseIsLeftAloneUntilItIsOver) {
  world_.add_pod("a", "n1");
  add_agent("a");
  world_.agents[0].last_request = "by-hand";
  world_.agents[0].is_busy = true;
  cordon("n1");
  world_.pass(10s);
  EXPECT_THAT(asked(), IsEmpty());
  answer();
  world_.pass(1s);
  EXPECT_THAT(asked(), SizeIs(1));
}

TEST_F(LeavingTest, NobodyIsAskedWhoCannotOrMustNot) {
  world_.add_pod("a", "n1");
  add_agent("a");
  cordon("n1");
  world_.agents[0].takes_snapshots = false;
  world_.pass(1s);
  world_.agents[0].takes_snapshots = true;
  world_.pods.at("a").paused = true;
  world_.pass(1s);
  world_.pods.at("a").paused = false;
  world_.out_of_date = "old";
  world_.pass(1s);
  world_.out_of_date.clear();
  world_.set_policy(R"({"selector":{},"paused":true})");
  world_.pass(1s);
  world_.set_policy(R"({"selector":{},"dryRun":true})");
  world_.pass(1s);
  world_.set_policy(R"({"selector":{"matchLabels":{"app":"other"}}})");
  world_.pass(1s);
  EXPECT_THAT(asked(), IsEmpty());
  world_.set_policy(R"({"selector":{}})");
  world_.pass(1s);
  EXPECT_THAT(asked(), SizeIs(1));
}

TEST(NodeFactsTest, WhoEmptiesANodeIsSeenByWhatItWrites) {
  const auto leaving = [](const char* spec) {
    const Json body = {{"metadata", {{"name", "n1"}, {"uid", "u"}, {"resourceVersion", "1"}}},
                       {"spec", Json::parse(spec)}};
    Json trimmed = body;
    trim_node(trimmed);
    const NodeFacts whole = read_node(*make_object(body));
    EXPECT_EQ(read_node(*make_object(trimmed)).leaving, whole.leaving);
    return whole.leaving;
  };
  EXPECT_EQ(leaving("{}"), "");
  EXPECT_EQ(leaving(R"({"unschedulable":true})"), "it is cordoned");
  EXPECT_EQ(leaving(R"({"taints":[{"key":"dedicated","effect":"NoSchedule"}, 7]})"), "");
  for (const char* key : {"node.kubernetes.io/unschedulable", "ToBeDeletedByClusterAutoscaler",
                          "karpenter.sh/disrupted", "karpenter.sh/disruption"}) {
    const Json spec = {{"taints", Json::array({{{"key", key}, {"effect", "NoSchedule"}}})}};
    EXPECT_THAT(leaving(spec.dump().c_str()), HasSubstr(key));
  }
}

TEST_F(LeavingTest, ANodeThatAPodWasMovedFromIsAvoidedForAWhile) {
  world_.add_pod("agent-7c9d8f-x", "n1").owner_name = "agent-7c9d8f";
  world_.lose_node("n1");
  world_.settle();
  const v1alpha1::HealingPolicyStatus& status = world_.policies[0].status;
  ASSERT_EQ(status.avoided_nodes_size(), 1);
  EXPECT_EQ(status.avoided_nodes(0).node(), "n1");
  EXPECT_EQ(status.avoided_nodes(0).workload(), "Deployment/agent");
  EXPECT_EQ(status.avoided_nodes(0).until(), "2026-01-01T00:10:00Z");
  EXPECT_EQ(status.avoided_nodes(0).incident(), world_.only()->name);
  world_.nodes["n1"].ready = true;
  world_.pass(9min);
  EXPECT_EQ(world_.policies[0].status.avoided_nodes_size(), 1) << "it may be lost again";
  world_.pass(1min);
  EXPECT_EQ(world_.policies[0].status.avoided_nodes_size(), 0);
}

TEST_F(LeavingTest, NoNodeIsAvoidedForWhatWasHeldBackOrWhereThePolicySaysSo) {
  world_.set_policy(R"({"selector":{},"dryRun":true})");
  world_.add_pod("a", "n1");
  world_.lose_node("n1");
  world_.settle();
  EXPECT_EQ(world_.policies[0].status.avoided_nodes_size(), 0);
  World other;
  other.set_policy(R"({"selector":{},"avoidNodeFor":"0s"})");
  other.add_pod("a", "n1");
  other.lose_node("n1");
  other.settle();
  EXPECT_THAT(other.evicted, SizeIs(1));
  EXPECT_EQ(other.policies[0].status.avoided_nodes_size(), 0);
}

TEST_F(LeavingTest, AnIncidentIsKeptForAsLongAsItsNodeIsAvoided) {
  world_.set_policy(R"({"selector":{},"incidentRetention":"1m","budgets":{"window":"10s"},
                        "avoidNodeFor":"1h"})");
  world_.namespace_budget = world_.fleet_budget = {100, 10s, {}};
  world_.add_pod("a", "n1");
  world_.lose_node("n1");
  world_.settle();
  world_.add_pod("b", "n2");
  world_.pass(1s);
  ASSERT_EQ(world_.only()->status.phase(), "Resolved");
  world_.pass(59min);
  EXPECT_EQ(world_.policies[0].status.avoided_nodes_size(), 1);
  world_.pass(2min);
  EXPECT_THAT(world_.incidents, IsEmpty());
}

}  // namespace
}  // namespace remora::k8s
