// What sidecars report, in the Incidents of their pods: one for one happening, whoever saw it
// first.
#include "k8s/healing/sidecar_reports.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/k8s/healing/plan_world.h"

namespace remora::k8s {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;
using namespace std::chrono_literals;

class SidecarReportsTest : public testing::Test {
 protected:
  SidecarReport report(const std::string& id, const std::string& outcome,
                       const std::string& fault = "crash") {
    const PodFacts& pod = world_.pods.at("a");
    SidecarReport made;
    made.pod.set_name(pod.name);
    made.pod.set_uid(pod.uid);
    made.container = "agent";
    made.detected_at = format_time(world_.now);
    made.healing.set_id(id);
    made.healing.set_fault(fault);
    made.healing.set_summary("exited with code 3");
    made.healing.set_outcome(outcome);
    made.healing.set_began_at(format_time(world_.now));
    if (outcome != "open") made.healing.set_ended_at(format_time(world_.now + 2s));
    if (outcome == "recovered") made.healing.set_recovery_milliseconds(2'000);
    return made;
  }
  void tell(const SidecarReport& told) {
    world_.reports[report_key(told)] = told;
    world_.settle();
  }
  World world_;
};

TEST_F(SidecarReportsTest, ACrashThatThePodHealsIsOneIncidentFromItsBeginningToItsEnd) {
  world_.add_pod("a");
  tell(report("i1", "open"));
  ASSERT_NE(world_.only(), nullptr);
  EXPECT_EQ(world_.only()->spec.fault(), "crash");
  EXPECT_EQ(world_.only()->spec.container(), "agent");
  EXPECT_EQ(world_.only()->spec.policy(), "p");
  EXPECT_EQ(world_.only()->spec.pod().owner(), "ReplicaSet/rs");
  EXPECT_EQ(world_.only()->status.phase(), "Healing");
  EXPECT_THAT(world_.reports, IsEmpty()) << "it is kept";
  world_.pass(1min);
  EXPECT_EQ(world_.only()->status.phase(), "Healing") << "it is in the sidecar's hands";
  tell(report("i1", "recovered"));
  ASSERT_NE(world_.only(), nullptr);
  EXPECT_EQ(world_.only()->status.phase(), "Resolved");
  ASSERT_THAT(world_.only()->status.sidecar(), SizeIs(1));
  EXPECT_EQ(world_.only()->status.sidecar(0).outcome(), "recovered");
  EXPECT_THAT(world_.evicted, IsEmpty());
}

TEST_F(SidecarReportsTest, AReportThatComesAgainChangesNothing) {
  world_.add_pod("a");
  tell(report("i1", "recovered"));
  const std::string before = world_.only()->status.SerializeAsString();
  for (int i = 0; i < 3; ++i) tell(report("i1", "recovered"));
  ASSERT_NE(world_.only(), nullptr);
  EXPECT_EQ(world_.only()->status.SerializeAsString(), before);
}

TEST_F(SidecarReportsTest, WhatBeganAndEndedWhileNobodyListenedIsOneResolvedIncident) {
  world_.add_pod("a");
  world_.reports[report_key(report("i1", "recovered"))] = report("i1", "recovered");
  world_.reports[report_key(report("i2", "recovered"))] = report("i2", "recovered");
  world_.settle();
  EXPECT_EQ(world_.incidents.size(), 2u);
  for (const auto& [name, incident] : world_.incidents) {
    EXPECT_EQ(incident.status.phase(), "Resolved") << name;
    EXPECT_THAT(incident.status.sidecar(), SizeIs(1));
  }
}

TEST_F(SidecarReportsTest, TheOperatorsOwnIncidentTakesTheSidecarsEvidence) {
  world_.crash_loop(world_.add_pod("a"));
  world_.settle();
  ASSERT_EQ(world_.only()->spec.fault(), "crash_loop");
  tell(report("i1", "open"));
  ASSERT_NE(world_.only(), nullptr) << "one Incident, not two";
  ASSERT_THAT(world_.only()->status.sidecar(), SizeIs(1));
  tell(report("i1", "gave_up"));
  EXPECT_EQ(world_.only()->status.phase(), "Healing") << "the plan's ladder goes on";
}

TEST_F(SidecarReportsTest, TheSidecarsIncidentTakesWhatTheOperatorSees) {
  PodFacts& pod = world_.add_pod("a");
  tell(report("i1", "open"));
  world_.crash_loop(pod);
  world_.settle();
  ASSERT_NE(world_.only(), nullptr) << "one Incident, not two";
  EXPECT_EQ(World::steps_of(*world_.only()), "wait:done") << "the ladder of a crash loop";
}

TEST_F(SidecarReportsTest, ASidecarThatGaveUpEscalatesToTheClustersLadder) {
  PodFacts& pod = world_.add_pod("a");
  world_.add_pod("b", "n2");
  world_.add_pod("c", "n3");
  pod.ready = false;
  tell(report("i1", "open"));
  tell(report("i1", "gave_up"));
  ASSERT_FALSE(world_.incidents.empty());
  EXPECT_THAT(World::steps_of(world_.incidents.begin()->second), StartsWith("reschedule:"));
  EXPECT_THAT(world_.evicted, SizeIs(1));
}

TEST_F(SidecarReportsTest, ThePodsReadinessMayBeToldLaterThanThatItsSidecarGaveUp) {
  world_.set_policy(R"({"selector":{},"stableAfter":"0s"})");
  world_.add_pod("a");
  tell(report("i1", "open"));
  tell(report("i1", "gave_up"));
  world_.pass(5s);
  ASSERT_NE(world_.only(), nullptr);
  EXPECT_TRUE(world_.only()->status.ended_at().empty()) << "it was ready a long time ago";
  world_.pods.at("a").ready = false;
  world_.settle();
  EXPECT_THAT(World::steps_of(*world_.only()), StartsWith("reschedule:"));
}

TEST_F(SidecarReportsTest, AnAgentThatComesBackAfterAllNeedsNoStep) {
  world_.add_pod("a");
  tell(report("i1", "gave_up"));
  world_.pass(1min);
  ASSERT_NE(world_.only(), nullptr);
  EXPECT_EQ(world_.only()->status.phase(), "Resolved");
  EXPECT_THAT(world_.evicted, IsEmpty());
}

TEST_F(SidecarReportsTest, ADependencyIsRecordedBesideAndNeverActedUpon) {
  PodFacts& pod = world_.add_pod("a");
  tell(report("i1", "open", "dependency"));
  world_.crash_loop(pod);
  world_.settle();
  EXPECT_EQ(world_.incidents.size(), 2u);
  tell(report("i2", "open"));
  EXPECT_EQ(world_.incidents.size(), 2u) << "the crash belongs to the crash loop";
  for (const auto& [name, incident] : world_.incidents) {
    if (incident.spec.fault() == "dependency") {
      EXPECT_EQ(World::steps_of(incident), "") << name;
    }
  }
}

TEST_F(SidecarReportsTest, OneIncidentHoldsALimitedNumberOfHealings) {
  world_.crash_loop(world_.add_pod("a"));
  world_.settle();
  for (int i = 100; i < 100 + 2 * sidecar_healings_max; ++i) {
    tell(report("i" + std::to_string(i), "recovered"));
  }
  ASSERT_NE(world_.only(), nullptr);
  EXPECT_THAT(world_.only()->status.sidecar(), SizeIs(sidecar_healings_max));
  EXPECT_EQ(world_.only()->status.sidecar().rbegin()->id(), "i131");
}

TEST_F(SidecarReportsTest, EachNewsIsToldOnceWithAStableReason) {
  world_.add_pod("a");
  const SidecarReport open = report("i1", "open");
  const auto opened = keep_report(open, {}, "p", world_.now);
  ASSERT_TRUE(opened);
  EXPECT_EQ(std::get<OpenIncident>(*opened).reason, "RemoraFoundFault");
  tell(open);
  const auto healed = keep_report(report("i1", "recovered"), world_.incidents, "p", world_.now);
  ASSERT_TRUE(healed);
  EXPECT_EQ(std::get<UpdateIncident>(*healed).reason, "RemoraHealed");
  EXPECT_THAT(std::get<UpdateIncident>(*healed).message, HasSubstr("ready 2.0 s after"));
  const auto gave_up = keep_report(report("i1", "gave_up"), world_.incidents, "p", world_.now);
  EXPECT_EQ(std::get<UpdateIncident>(*gave_up).reason, "RemoraGaveUp");
}

}  // namespace
}  // namespace remora::k8s
