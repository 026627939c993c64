// Reports of sidecars, before anything of them is kept.
#include "k8s/agents/report.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace remora::k8s {
namespace {

using testing::SizeIs;

constexpr int64_t second_ns = 1'000'000'000;
constexpr int64_t began_ns = 1'767'225'600 * second_ns;
const link::PodClaims pod{"shop", "a", "uid-a", "n1"};

link::v1::IncidentReport told() {
  link::v1::IncidentReport report;
  report.set_container("agent");
  report.set_id("20260101T000000.000Z-crash-3fa91c");
  report.set_fault("crash");
  report.set_summary("exited with code 3");
  report.set_outcome("recovered");
  report.set_began_at_unix_ns(began_ns);
  report.set_detected_at_unix_ns(began_ns + second_ns);
  report.set_decided_at_unix_ns(began_ns + 2 * second_ns);
  report.set_acted_at_unix_ns(began_ns + 4 * second_ns);
  report.set_ready_at_unix_ns(began_ns + 7 * second_ns);
  report.set_closed_at_unix_ns(began_ns + 7 * second_ns);
  link::v1::IncidentStep& step = *report.add_steps();
  step.set_action("restart");
  step.set_started_at_unix_ns(began_ns + 2 * second_ns);
  report.add_evidence("exit: exited with code 3");
  return report;
}

TEST(ReportTest, ControlCharactersBecomeSpaces) {
  link::v1::IncidentReport report = told();
  report.set_summary(std::string("a\0b\nc", 5));
  report.add_evidence(std::string("\0", 1));
  const Result<SidecarReport> read = sidecar_report(pod, report);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->healing.summary(), "a b c");
  EXPECT_EQ(read->healing.evidence(1), " ");
}

TEST(ReportTest, TimesBecomeTheSplitOfTheRecovery) {
  const Result<SidecarReport> report = sidecar_report(pod, told());
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->pod.uid(), "uid-a") << "whose word it is says the token";
  EXPECT_EQ(report->healing.began_at(), "2026-01-01T00:00:00Z");
  EXPECT_EQ(report->healing.detect_milliseconds(), 1'000);
  EXPECT_EQ(report->healing.decide_milliseconds(), 1'000);
  EXPECT_EQ(report->healing.act_milliseconds(), 2'000);
  EXPECT_EQ(report->healing.ready_milliseconds(), 3'000);
  EXPECT_EQ(report->healing.recovery_milliseconds(), 7'000);
  EXPECT_THAT(report->healing.steps(), SizeIs(1));
}

TEST(ReportTest, WhatNoSidecarOfOursWritesIsRefused) {
  const auto refused = [](auto change) {
    link::v1::IncidentReport report = told();
    change(report);
    return !sidecar_report(pod, report).has_value();
  };
  EXPECT_TRUE(refused([](auto& r) { r.set_id("../x"); }));
  EXPECT_TRUE(refused([](auto& r) { r.set_id(""); }));
  EXPECT_TRUE(refused([](auto& r) { r.set_id(std::string(101, 'a')); }));
  EXPECT_TRUE(refused([](auto& r) { r.set_fault("node_unready"); }));
  EXPECT_TRUE(refused([](auto& r) { r.set_outcome("Resolved"); }));
}

TEST(ReportTest, WhatIsTooMuchIsCutAndTimesOutsideOfTheClockAreLeftOut) {
  link::v1::IncidentReport report = told();
  for (int i = 0; i < 200; ++i) {
    *report.add_steps() = report.steps(0);
    report.add_evidence(std::string(5'000, 'x'));
  }
  report.set_began_at_unix_ns(INT64_MAX);
  report.set_ready_at_unix_ns(INT64_MIN);
  const Result<SidecarReport> kept = sidecar_report(pod, report);
  ASSERT_TRUE(kept);
  EXPECT_THAT(kept->healing.steps(), SizeIs(report_items_max));
  EXPECT_THAT(kept->healing.evidence(), SizeIs(report_evidence_max));
  EXPECT_EQ(kept->healing.evidence(1).size(), report_line_bytes_max);
  EXPECT_EQ(kept->healing.began_at(), "");
  EXPECT_EQ(kept->healing.recovery_milliseconds(), 0);
}

TEST(ReportTest, ACharacterIsNotCutInTwo) {
  EXPECT_EQ(cut("aä", 2), "a");
  EXPECT_EQ(cut("aä", 3), "aä");
}

}  // namespace
}  // namespace remora::k8s
