// What the sidecar remembers of its talk with the operator, and how it tells of incidents.
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sidecar/app/link_report.h"
#include "sidecar/app/report_mark.h"
#include "sidecar/app/request_record.h"

namespace remora {
namespace {

TEST(ReportMarkTest, WhatIsAcknowledgedIsNotToldAgainAfterARestart) {
  ReportMark mark;
  mark.begin("uid-1", "");
  mark.settle("20260101-a", "");
  mark.settle("20260102-b", "");
  const ReportMark again = ReportMark::parse(mark.text());
  EXPECT_TRUE(again.is_settled("20260101-a"));
  EXPECT_TRUE(again.is_settled("20260102-b"));
  EXPECT_FALSE(again.is_settled("20260103-c"));
}

TEST(ReportMarkTest, AnOlderOneThatIsStillOpenIsWaitedFor) {
  ReportMark mark;
  mark.begin("uid-1", "");
  mark.settle("20260102-b", "20260101-a");
  mark.settle("20260103-c", "20260101-a");
  mark = ReportMark::parse(mark.text());
  EXPECT_FALSE(mark.is_settled("20260101-a"));
  EXPECT_TRUE(mark.is_settled("20260102-b"));
  mark.settle("20260101-a", "");
  EXPECT_TRUE(mark.is_settled("20260101-a"));
  EXPECT_THAT(mark.text(), testing::HasSubstr(R"("through":"20260103-c")"));
}

TEST(ReportMarkTest, IncidentsOfAnEarlierPodOnTheSameStoreAreNotThisOnes) {
  ReportMark mark;
  mark.begin("uid-1", "");
  mark.settle("20260101-a", "");
  mark = ReportMark::parse(mark.text());
  mark.begin("uid-1", "20260105-z");
  EXPECT_FALSE(mark.is_settled("20260105-z")) << "the same pod, restarted";
  mark.begin("uid-2", "20260105-z");
  EXPECT_TRUE(mark.is_settled("20260105-z"));
  EXPECT_FALSE(mark.is_settled("20260106-a"));
}

TEST(ReportMarkTest, WhatIsNoMarkIsOneAtTheBeginning) {
  for (const char* text : {"", "[]", "{", R"({"settled":[1,"../x"],"through":3})", "null"}) {
    EXPECT_FALSE(ReportMark::parse(text).is_settled("20260101-a")) << text;
  }
}

TEST(ReportMarkTest, WhatIsHeldBehindAnOpenOneIsLimited) {
  ReportMark mark;
  mark.begin("uid-1", "");
  for (size_t i = 0; i < 2 * report_mark_settled_max; ++i) {
    mark.settle("2026" + std::to_string(10'000 + i), "2026");
  }
  EXPECT_LT(mark.text().size(), report_mark_settled_max * 20);
}

TEST(RequestRecordTest, WhatWasCarriedOutIsKnownAfterARestartAndWhatWasBegunHasFailed) {
  RequestRecord record;
  record.put({.id = "r1", .is_over = true, .done = true, .message = "restored", .snapshot = "s"});
  record.put({.id = "r2"});
  record = RequestRecord::parse(record.text());
  record.close_left_open();
  ASSERT_NE(record.find("r1"), nullptr);
  EXPECT_TRUE(record.find("r1")->done);
  EXPECT_EQ(record.find("r1")->snapshot, "s");
  ASSERT_NE(record.find("r2"), nullptr);
  EXPECT_TRUE(record.find("r2")->is_over);
  EXPECT_FALSE(record.find("r2")->done);
  EXPECT_EQ(record.find("r3"), nullptr);
}

TEST(RequestRecordTest, TheOldestGoesPastTheLimit) {
  RequestRecord record;
  for (size_t i = 0; i <= requests_kept_max; ++i) record.put({.id = "r" + std::to_string(i)});
  EXPECT_EQ(record.find("r0"), nullptr);
  EXPECT_NE(record.find("r1"), nullptr);
}

TEST(LinkReportTest, TextsAreShortAndUtf8) {
  EXPECT_EQ(link_text("caf\xc3\xa9"), "caf\xc3\xa9");
  EXPECT_EQ(link_text("\xff"), "\xef\xbf\xbd");
  EXPECT_LE(link_text(std::string(5'000, 'x')).size(), link_text_bytes_max);
}

TEST(LinkReportTest, AnIncidentIsToldWithItsTimesAndEnd) {
  Incident incident;
  incident.id = "20260101T000000.000Z-crash-3fa91c";
  incident.status = IncidentStatus::kClosed;
  incident.closed_reason = ClosedReason::kGaveUp;
  incident.began_at_unix_ns = 1;
  incident.steps.push_back({HealAction::kRestart, "crash, attempt 1", 5, 0, 0, ""});
  incident.evidence.push_back({"exit", "exited with code 3"});
  const link::v1::IncidentReport report = incident_report("agent", incident);
  EXPECT_EQ(report.outcome(), "gave_up");
  EXPECT_EQ(report.fault(), "crash");
  EXPECT_EQ(report.steps(0).action(), "restart");
  EXPECT_EQ(report.evidence(0), "exit: exited with code 3");
  incident.status = IncidentStatus::kOpen;
  EXPECT_EQ(incident_report("agent", incident).outcome(), "open");
}

}  // namespace
}  // namespace remora
