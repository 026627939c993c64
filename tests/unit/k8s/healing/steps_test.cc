// The steps beyond waiting and moving: rolling back, resizing, making anew.
#include "k8s/healing/steps.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/k8s/healing/plan_world.h"

namespace remora::k8s {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using namespace std::chrono_literals;

constexpr int64_t mebibyte = 1 << 20;

class StepsTest : public testing::Test {
 protected:
  StepsTest() {
    world_.set_policy(R"({"selector":{},"stepTimeout":"60s","stableAfter":"1s",
        "memory":{"factorPercent":150,"bytesMax":"128MiB"},"ladders":[
        {"fault":"crash_loop","steps":["roll_back","reprovision","alert"]},
        {"fault":"out_of_memory","steps":["resize","resize","alert"]}]})");
    WorkloadFacts workload{.kind = "Deployment", .name = "agent", .uid = "u"};
    workload.current = "agent-new";
    workload.revisions = {{.name = "agent-new", .number = 2, .created_at = world_.now - 1min},
                          {.name = "agent-old",
                           .number = 1,
                           .created_at = world_.now - 1h,
                           .replicas = 1,
                           .ready_replicas = 1,
                           .pod_template = "{}"}};
    world_.readable["ReplicaSet/agent-new"] = workload;
    world_.readable["ReplicaSet/agent-old"] = workload;
  }
  PodFacts& pod_of(const std::string& name, const std::string& hash) {
    PodFacts& pod = world_.add_pod(name);
    pod.owner_name = "agent-" + hash;
    pod.labels["pod-template-hash"] = hash;
    return pod;
  }
  void out_of_memory(PodFacts& pod, int64_t limit_bytes) {
    world_.crash_loop(pod);
    pod.containers[0].ended->reason = "OOMKilled";
    pod.containers[0].memory_limit_bytes = limit_bytes;
    pod.containers[0].running = true;
  }
  const IncidentRecord& first() const { return world_.incidents.begin()->second; }

  World world_;
};

TEST_F(StepsTest, ARevisionThatCrashLoopsIsRolledBackOnceForAllItsPods) {
  pod_of("old", "old");
  for (const char* name : {"a", "b", "c"}) world_.crash_loop(pod_of(name, "new"));
  world_.settle();
  EXPECT_THAT(world_.rolled_back, ElementsAre("Deployment/agent to agent-old"))
      << "although most pods are sick";
  EXPECT_EQ(first().status.workload(), "Deployment/agent");
  EXPECT_EQ(World::steps_of(first()), "roll_back:done");
  EXPECT_THAT(first().status.steps(0).message(), HasSubstr("is at revision agent-old again"));
  // The Deployment's controller does the rest.
  for (const char* name : {"a", "b", "c"}) world_.pods.erase(name);
  PodFacts& made = pod_of("d", "old");
  made.ready = false;
  world_.pass(5s);
  EXPECT_TRUE(first().status.ended_at().empty()) << "it isn't ready yet";
  made.ready = true;
  world_.pass(5s);
  for (const auto& [name, incident] : world_.incidents) {
    EXPECT_EQ(incident.status.phase(), "Resolved");
    EXPECT_EQ(World::steps_of(incident), "roll_back:verified");
    EXPECT_THAT(incident.status.steps(0).message(), HasSubstr("all 2 pods of Deployment/agent"));
  }
}

TEST_F(StepsTest, ARollbackWhosePodsDoNotGetReadyInTimeIsNoSuccess) {
  world_.crash_loop(pod_of("a", "new"));
  world_.settle();
  world_.pods.erase("a");
  pod_of("b", "old").ready = false;
  world_.pass(61s);
  EXPECT_EQ(first().status.phase(), "Alerted");
  EXPECT_EQ(World::steps_of(first()), "roll_back:done alert:done");
  // Less than it takes to call that pod sick, too.
  world_.pass(10s);
  EXPECT_EQ(World::steps_of(first()), "roll_back:done alert:done") << "once";
  EXPECT_EQ(first().status.phase(), "Alerted");
  world_.pods.at("b").ready = true;
  world_.pass(5s);
  EXPECT_EQ(first().status.phase(), "Resolved");
}

TEST_F(StepsTest, ARollbackOfAWorkloadThatIsDeletedMeanwhileEnds) {
  world_.crash_loop(pod_of("a", "new"));
  world_.settle();
  world_.pods.erase("a");
  world_.pass(30s);
  EXPECT_EQ(first().status.phase(), "Healing");
  world_.pass(31s);
  EXPECT_EQ(first().status.phase(), "Resolved");
}

TEST_F(StepsTest, ARollbackThatWasDoneBeforeTheOperatorDiedIsNotDoneAgain) {
  world_.crash_loop(pod_of("a", "new"));
  world_.settle();
  auto& step = *world_.incidents.begin()->second.status.mutable_steps(0);
  step.set_state("intended");
  world_.workloads.clear();
  world_.memory.clear();
  world_.settle();
  EXPECT_EQ(world_.rolled_back.size(), 1u);
  EXPECT_EQ(World::steps_of(first()), "roll_back:done");
}

TEST_F(StepsTest, ARollbackThatDidNotHelpIsFollowedByTheNextStepAndNotMadeTwice) {
  world_.crash_loop(pod_of("a", "new"));
  world_.settle();
  world_.pass(61s);
  EXPECT_EQ(World::steps_of(first()), "roll_back:failed reprovision:skipped alert:done");
  EXPECT_THAT(first().status.steps(1).message(), HasSubstr("imagePullPolicy: Always"));
  world_.incidents.clear();
  world_.settle();
  EXPECT_EQ(World::steps_of(first()), "roll_back:skipped reprovision:skipped alert:done");
  EXPECT_THAT(first().status.steps(0).message(), HasSubstr("never twice"));
  EXPECT_EQ(world_.rolled_back.size(), 1u);
}

TEST_F(StepsTest, AStatefulSetsSickPodIsTakenAwayAfterTheRollback) {
  PodFacts& pod = world_.add_pod("agent-0");
  pod.owner_kind = "StatefulSet";
  pod.owner_name = "agent";
  pod.labels["controller-revision-hash"] = "agent-new";
  WorkloadFacts workload = world_.readable["ReplicaSet/agent-new"];
  workload.kind = "StatefulSet";
  workload.revisions[1].replicas = 0;
  workload.revisions[1].ready_replicas = 0;
  world_.readable["StatefulSet/agent"] = workload;
  world_.crash_loop(pod);
  world_.settle();
  EXPECT_THAT(world_.rolled_back, ElementsAre("StatefulSet/agent to agent-old"));
  EXPECT_THAT(world_.evicted, ElementsAre("agent-0"));
  PodFacts& made = world_.add_pod("agent-0");
  made.owner_kind = "StatefulSet";
  made.owner_name = "agent";
  made.labels["controller-revision-hash"] = "agent-old";
  world_.pass(5s);
  EXPECT_EQ(World::steps_of(first()), "roll_back:verified");
}

TEST_F(StepsTest, AnIntendedStepIsDoneAlsoBetweenTwoCrashes) {
  world_.set_policy(R"({"selector":{},"ladders":[{"fault":"crash_loop","steps":["reschedule"]}]})");
  world_.crash_loop(pod_of("a", "new"));
  world_.next_outcome = StepOutcome::kHeld;
  world_.settle();
  EXPECT_EQ(World::steps_of(first()), "reschedule:intended");
  world_.pods["a"].containers.clear();
  world_.next_outcome = StepOutcome::kDone;
  world_.pass(5s);
  EXPECT_THAT(world_.evicted, ElementsAre("a"));
}

TEST_F(StepsTest, ARollbackHasItsTimeBeforeItsIncidentIsJudged) {
  world_.crash_loop(pod_of("a", "new"));
  world_.pass(55s);
  world_.settle();
  world_.pods.erase("a");
  pod_of("b", "old").ready = false;
  world_.pass(4s);
  EXPECT_TRUE(first().status.ended_at().empty());
  world_.pods["b"].ready = true;
  world_.pass(1s);
  EXPECT_EQ(World::steps_of(first()), "roll_back:verified");
}

TEST_F(StepsTest, ADryRunSaysWhatItWouldRollBack) {
  world_.policies[0].spec.set_dry_run(true);
  world_.crash_loop(pod_of("a", "new"));
  world_.settle();
  EXPECT_THAT(world_.rolled_back, IsEmpty());
  EXPECT_THAT(first().status.steps(0).message(),
              HasSubstr("Deployment/agent from revision agent-new to agent-old"));
}

TEST_F(StepsTest, AMemoryLimitIsRaisedByTheFactorAndNotBeyondTheMaximum) {
  out_of_memory(pod_of("a", "new"), 64 * mebibyte);
  world_.settle();
  EXPECT_THAT(world_.resized, ElementsAre("a agent 100663296"));
  EXPECT_EQ(World::steps_of(first()), "resize:done");
  world_.pass(61s);
  EXPECT_THAT(world_.resized, ElementsAre("a agent 100663296", "a agent 134217728"));
  world_.pass(61s);
  EXPECT_EQ(World::steps_of(first()), "resize:failed resize:failed alert:done");
  world_.incidents.clear();
  world_.settle();
  EXPECT_EQ(World::steps_of(first()), "resize:skipped resize:skipped alert:done");
  EXPECT_THAT(first().status.steps(0).message(), HasSubstr("the policy allows 128Mi"));
}

TEST_F(StepsTest, AMemoryLimitIsRaisedWhileTheContainerRunsOnly) {
  PodFacts& pod = pod_of("a", "new");
  out_of_memory(pod, 64 * mebibyte);
  pod.containers[0].running = false;
  world_.settle();
  EXPECT_THAT(world_.resized, IsEmpty());
  EXPECT_EQ(World::steps_of(first()), "resize:intended");
  pod.containers[0] = {.name = "agent", .ready = true, .running = true};
  pod.containers[0].memory_limit_bytes = 64 * mebibyte;
  pod.ready = true;
  world_.settle();
  EXPECT_EQ(world_.resized.size(), 1u) << "before it is killed again";
}

TEST_F(StepsTest, AResizeThatWasDoneBeforeTheOperatorDiedIsNotRaisedFurther) {
  out_of_memory(pod_of("a", "new"), 64 * mebibyte);
  world_.settle();
  auto& step = *world_.incidents.begin()->second.status.mutable_steps(0);
  step.set_state("intended");
  world_.settle();
  EXPECT_EQ(world_.resized.size(), 1u);
  EXPECT_EQ(World::steps_of(first()), "resize:done");
  EXPECT_THAT(first().status.steps(0).message(), HasSubstr("limit of its template"));
}

TEST_F(StepsTest, ANodeThatCanNotResizeMeansTheNextStepAtOnce) {
  PodFacts& pod = pod_of("a", "new");
  out_of_memory(pod, 64 * mebibyte);
  world_.settle();
  pod.resize_refusal = "Infeasible: Node didn't have enough capacity: memory";
  world_.policies[0].spec.mutable_ladders(1)->mutable_steps()->Clear();
  for (const char* step : {"resize", "alert"}) {
    world_.policies[0].spec.mutable_ladders(1)->add_steps(step);
  }
  world_.pass(1s);
  EXPECT_EQ(World::steps_of(first()), "resize:failed alert:done");
  EXPECT_THAT(first().status.steps(0).message(), HasSubstr("enough capacity"));
}

TEST_F(StepsTest, MemoryIsRaisedOnlyWhereThePolicyAndThePodHaveTheLimits) {
  PodFacts pod;
  pod.containers = {{.name = "agent"}};
  v1alpha1::HealingPolicySpec spec;
  EXPECT_THAT(plan_memory(pod, "agent", spec).why_not, HasSubstr("section memory"));
  spec.mutable_memory()->set_factor_percent(150);
  spec.mutable_memory()->set_bytes_max(int64_t{1} << 40);
  EXPECT_THAT(plan_memory(pod, "agent", spec).why_not, HasSubstr("no container"));
  pod.containers[0].memory_limit_bytes = 10 * mebibyte;
  EXPECT_EQ(plan_memory(pod, "agent", spec).to_bytes, 15 * mebibyte);
  EXPECT_FALSE(plan_memory(pod, "agent", spec).request_bytes);
  pod.containers[0].memory_request_bytes = 10 * mebibyte;
  EXPECT_EQ(plan_memory(pod, "agent", spec).request_bytes, 15 * mebibyte);
  pod.containers[0].is_init = true;
  EXPECT_THAT(plan_memory(pod, "agent", spec).why_not, HasSubstr("init container"));
}

TEST_F(StepsTest, MadeAnewIsOnlyWhatBringsNothingAlong) {
  PodFacts pod;
  EXPECT_THAT(why_not_afresh(pod), HasSubstr("no controller"));
  pod.owner_kind = "ReplicaSet";
  pod.containers = {{.name = "agent", .image = "agent:1"}};
  EXPECT_THAT(why_not_afresh(pod), HasSubstr("own copy of agent:1"));
  pod.containers[0].pulls_always = true;
  EXPECT_EQ(why_not_afresh(pod), "");
  pod.claims = {"state"};
  EXPECT_THAT(why_not_afresh(pod), HasSubstr("volume claim state"));
}

TEST_F(StepsTest, APodMadeAnewTellsWhichImageItRuns) {
  world_.policies[0].spec.mutable_ladders(0)->mutable_steps()->Clear();
  world_.policies[0].spec.mutable_ladders(0)->add_steps("reprovision");
  PodFacts& pod = pod_of("a", "new");
  world_.crash_loop(pod);
  pod.containers[0].pulls_always = true;
  pod.containers[0].image_id = "registry/agent@sha256:1111";
  world_.settle();
  EXPECT_THAT(world_.evicted, ElementsAre("a"));
  EXPECT_THAT(first().status.evidence(), testing::Contains("it ran agent sha256:1111"));
  PodFacts& made = pod_of("b", "new");
  made.containers = {{.name = "agent", .ready = true, .image_id = "registry/agent@sha256:2222"}};
  world_.pass(5s);
  EXPECT_EQ(World::steps_of(first()), "reprovision:verified");
  EXPECT_THAT(first().status.steps(0).message(), HasSubstr("from agent sha256:2222"));
}

}  // namespace
}  // namespace remora::k8s
