// An Incident as a trace.
#include "k8s/healing/incident_trace.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace remora::k8s {
namespace {

IncidentRecord incident() {
  IncidentRecord made;
  made.name = "a-crash";
  made.uid = "uid-1";
  made.spec.mutable_pod()->set_name("a");
  made.spec.set_fault("crash_loop");
  made.spec.set_began_at("2026-01-01T00:00:00Z");
  made.spec.set_detected_at("2026-01-01T00:00:05Z");
  made.status.set_phase("Resolved");
  made.status.set_ended_at("2026-01-01T00:01:00Z");
  v1alpha1::IncidentStep& step = *made.status.add_steps();
  step.set_name("reschedule");
  step.set_state("verified");
  step.set_started_at("2026-01-01T00:00:10Z");
  step.set_ended_at("2026-01-01T00:00:40Z");
  made.status.add_sidecar()->set_id("20260101T000000.000Z-crash-abcdef");
  return made;
}

TEST(IncidentTraceTest, ItsStepsAreBelowItAndItLinksToWhatTheSidecarDid) {
  const auto spans = incident_trace("shop", incident());
  ASSERT_EQ(spans.size(), 2U);
  const otlp::Span& root = spans[0];
  EXPECT_EQ(root.name, "heal");
  EXPECT_EQ(root.to_unix_ns - root.from_unix_ns, 60'000'000'000);
  EXPECT_EQ(root.status, otlp::SpanStatus::kOk);
  EXPECT_THAT(root.attributes, testing::Contains(testing::Pair("k8s.namespace.name", "shop")));
  EXPECT_THAT(root.attributes, testing::Not(testing::Contains(testing::Pair("k8s.node.name", ""))));
  EXPECT_EQ(spans[1].name, "reschedule");
  EXPECT_EQ(spans[1].parent_span_id, root.span_id);
  EXPECT_EQ(spans[1].trace_id, root.trace_id);
  EXPECT_EQ(spans[1].to_unix_ns - spans[1].from_unix_ns, 30'000'000'000);
  ASSERT_EQ(root.links.size(), 1U);
  // As the sidecar's own exporter names it.
  EXPECT_EQ(root.links[0].trace_id, otlp::trace_id_of("20260101T000000.000Z-crash-abcdef"));
  EXPECT_EQ(root.links[0].span_id,
            otlp::span_id_of("20260101T000000.000Z-crash-abcdef", otlp::heal_span));
}

TEST(IncidentTraceTest, OneThatNobodyHealedIsAnError) {
  IncidentRecord alerted = incident();
  alerted.status.set_phase("Alerted");
  alerted.spec.set_summary("it crashes");
  const auto spans = incident_trace("shop", alerted);
  EXPECT_EQ(spans[0].status, otlp::SpanStatus::kError);
  EXPECT_EQ(spans[0].status_message, "it crashes");
}

}  // namespace
}  // namespace remora::k8s
