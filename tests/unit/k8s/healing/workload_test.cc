// Deployments and StatefulSets with their revisions: which one a sick pod may be taken back to.
#include "k8s/healing/workload.h"

#include <nlohmann/json.hpp>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "k8s/healing/quantity.h"

namespace remora::k8s {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

const WallTime now = *parse_time("2026-01-01T01:00:00Z");

Json replica_set(const std::string& name, int revision, const std::string& created, int replicas,
                 int ready, const std::string& owner = "u") {
  Json set = Json::parse(R"({"metadata":{"ownerReferences":[{"controller":true}],
      "annotations":{}},"spec":{"template":{"metadata":{"labels":{"app":"a",
      "pod-template-hash":"h"}},"spec":{"containers":[{"name":"agent"}]}}},"status":{}})");
  set["metadata"]["name"] = name;
  set["metadata"]["creationTimestamp"] = created;
  set["metadata"]["ownerReferences"][0]["uid"] = owner;
  set["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = std::to_string(revision);
  set["spec"]["replicas"] = replicas;
  set["spec"]["template"]["spec"]["containers"][0]["image"] = "agent:" + std::to_string(revision);
  set["status"]["readyReplicas"] = ready;
  return set;
}

Json deployment(int revision) {
  Json object = Json::parse(R"({"metadata":{"name":"agent","uid":"u","generation":7,
      "annotations":{}},"spec":{}})");
  object["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = std::to_string(revision);
  return object;
}

// Revision 3 came ten minutes ago, beside 2, which has a ready pod still.
Json usual_sets() {
  return {{"items", Json::array({replica_set("rs-2", 2, "2026-01-01T00:10:00Z", 1, 1),
                                 replica_set("rs-3", 3, "2026-01-01T00:50:00Z", 1, 0),
                                 replica_set("rs-1", 1, "2026-01-01T00:00:00Z", 0, 0),
                                 replica_set("x", 9, "2026-01-01T00:00:00Z", 1, 1, "other")})}};
}

PodFacts pod_of(const std::string& revision) {
  PodFacts pod;
  pod.owner_kind = "ReplicaSet";
  pod.owner_name = revision;
  return pod;
}

RollbackChoice choose(const WorkloadFacts& workload, const std::string& revision = "rs-3",
                      const std::vector<std::string>& sick = {}) {
  return choose_rollback(workload, pod_of(revision), sick, 1h, 30s, now);
}

TEST(WorkloadTest, ADeploymentGoesBackToTheRevisionBeforeTheSickOne) {
  const WorkloadFacts workload = read_deployment(deployment(3), usual_sets());
  EXPECT_EQ(workload.current, "rs-3");
  ASSERT_EQ(workload.revisions.size(), 3u);
  const RollbackChoice choice = choose(workload);
  ASSERT_NE(choice.target, nullptr) << choice.why;
  EXPECT_EQ(choice.target->name, "rs-2");
  const Json patch = Json::parse(rollback_patch(workload, *choice.target, "rs-3", "because"));
  EXPECT_EQ(patch[0]["value"], "u");
  EXPECT_EQ(patch[1]["value"], 7);
  EXPECT_EQ(patch[2]["path"], "/spec/template");
  EXPECT_EQ(patch[2]["value"]["spec"]["containers"][0]["image"], "agent:2");
  EXPECT_FALSE(patch[2]["value"]["metadata"]["labels"].contains("pod-template-hash"));
  EXPECT_EQ(patch[3]["path"], "/metadata/annotations/remora.dev~1rolled-back");
  EXPECT_EQ(patch[3]["value"], "rs-3>rs-2");
  EXPECT_EQ(patch[4]["value"], "because");
}

TEST(WorkloadTest, NeverTwiceBetweenTheSameTwoAndNeverToOneThatWasLeftSo) {
  Json object = deployment(3);
  object["metadata"]["annotations"]["remora.dev/rolled-back"] = "rs-3>rs-2";
  RollbackChoice choice = choose(read_deployment(object, usual_sets()));
  EXPECT_EQ(choice.target, nullptr);
  EXPECT_THAT(choice.why, HasSubstr("never twice"));
  object["metadata"]["annotations"]["remora.dev/rolled-back"] = "rs-2>rs-1";
  EXPECT_THAT(choose(read_deployment(object, usual_sets())).why, HasSubstr("left by a rollback"));
}

TEST(WorkloadTest, WhatIsNotTheNewRevisionsDoingIsNotRolledBack) {
  EXPECT_TRUE(choose(read_deployment(deployment(3), usual_sets()), "rs-2").already);
  // A revision that has been there for long.
  WorkloadFacts old = read_deployment(deployment(3), usual_sets());
  old.revisions[0].created_at = now - 2h;
  EXPECT_THAT(choose(old).why, HasSubstr("too old"));
  // Pods of both are sick: a dependency.
  WorkloadFacts both = read_deployment(deployment(3), usual_sets());
  both.revisions[1].ready_replicas = 0;
  EXPECT_THAT(choose(both).why, HasSubstr("not ready either"));
  // None is left of the one before: it must have been in service, without faults.
  both.revisions[1].replicas = 0;
  EXPECT_NE(choose(both).target, nullptr);
  EXPECT_THAT(choose(both, "rs-3", {"rs-2"}).why, HasSubstr("had faults, too"));
  both.revisions[1].created_at = *both.revisions[0].created_at - 5s;
  EXPECT_THAT(choose(both).why, HasSubstr("not there long enough"));
  WorkloadFacts first = read_deployment(deployment(3), usual_sets());
  first.revisions.resize(1);
  EXPECT_THAT(choose(first).why, HasSubstr("no revision before"));
  WorkloadFacts paused = read_deployment(deployment(3), usual_sets());
  paused.paused = true;
  EXPECT_THAT(choose(paused).why, HasSubstr("is paused"));
  EXPECT_EQ(choose({.trouble = "no right"}).why, "no right");
}

TEST(WorkloadTest, AStatefulSetsRevisionsAreItsControllerRevisions) {
  const Json set = Json::parse(R"({"metadata":{"name":"agent","uid":"u","generation":2},
      "spec":{},"status":{"updateRevision":"agent-b"}})");
  const Json revisions = Json::parse(R"({"items":[
      {"metadata":{"name":"agent-a","creationTimestamp":"2026-01-01T00:00:00Z",
        "ownerReferences":[{"uid":"u","controller":true}]},"revision":1,
       "data":{"spec":{"template":{"$patch":"replace","spec":{"containers":[]}}}}},
      {"metadata":{"name":"agent-b","creationTimestamp":"2026-01-01T00:59:00Z",
        "ownerReferences":[{"uid":"u","controller":true}]},"revision":2,"data":{}}]})");
  const WorkloadFacts workload = read_stateful_set(set, revisions);
  PodFacts pod;
  pod.owner_kind = "StatefulSet";
  pod.owner_name = "agent";
  pod.labels = {{"controller-revision-hash", "agent-b"}};
  const RollbackChoice choice = choose_rollback(workload, pod, {}, 1h, 30s, now);
  ASSERT_NE(choice.target, nullptr) << choice.why;
  EXPECT_EQ(choice.target->name, "agent-a");
  EXPECT_EQ(choice.target->pod_template, R"({"spec":{"containers":[]}})");
  const Json patch = Json::parse(rollback_patch(workload, *choice.target, "agent-b", "c"));
  EXPECT_EQ(patch[3]["path"], "/metadata/annotations") << "there were none";
}

TEST(WorkloadTest, OddObjectsGiveNoTarget) {
  for (const char* text : {"{}", "[]", "5", R"({"metadata":5,"items":[5,{"metadata":[]}]})",
                           R"({"metadata":{"uid":"u"},"items":{"a":1}})"}) {
    const Json odd = Json::parse(text);
    EXPECT_EQ(choose(read_deployment(odd, odd)).target, nullptr) << text;
    EXPECT_EQ(choose(read_stateful_set(odd, odd)).target, nullptr) << text;
  }
}

TEST(QuantityTest, IsReadAsKubernetesWritesIt) {
  EXPECT_EQ(parse_quantity("67108864"), 67'108'864);
  EXPECT_EQ(parse_quantity("64Mi"), 67'108'864);
  EXPECT_EQ(parse_quantity("1.5Gi"), 1'610'612'736);
  EXPECT_EQ(parse_quantity("500M"), 500'000'000);
  EXPECT_EQ(parse_quantity("1e9"), 1'000'000'000);
  EXPECT_EQ(parse_quantity("1500m"), 2);
  for (const char* bad : {"", "Mi", "-1", "1.2.3", "5Q", "1e99", "99999999Ei", "1e", "1e+", "1 "}) {
    EXPECT_FALSE(parse_quantity(bad)) << bad;
  }
  EXPECT_EQ(format_quantity(100'663'296), "96Mi");
  EXPECT_EQ(format_quantity(1000), "1000");
}

}  // namespace
}  // namespace remora::k8s
