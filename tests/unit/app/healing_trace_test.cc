// A healing as an OpenTelemetry trace.
#include "sidecar/app/healing_trace.h"

#include <nlohmann/json.hpp>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace remora {
namespace {

using Json = nlohmann::json;

constexpr const char* parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

Incident incident() {
  Incident incident;
  incident.id = "20260101T000000.000Z-crash-abcdef";
  incident.summary = "ended with 3";
  incident.began_at_unix_ns = 1'000;
  incident.detected_at_unix_ns = 2'000;
  incident.decided_at_unix_ns = 3'000;
  incident.acted_at_unix_ns = 4'000;
  incident.ready_at_unix_ns = 5'000;
  incident.closed_at_unix_ns = 6'000;
  incident.status = IncidentStatus::kClosed;
  incident.closed_reason = ClosedReason::kRecovered;
  incident.requests_in_flight = {"GET /a, 0.1 s",
                                 std::string("GET /b, 0.2 s, traceparent ") + parent};
  return incident;
}

Json spans_of(const Incident& incident) {
  const Json trace = Json::parse(
      otlp::export_request({{"service.name", "shop"}}, healing_trace(incident, "main")));
  return trace["resourceSpans"][0]["scopeSpans"][0]["spans"];
}

TEST(HealingTraceTest, PartsFollowEachOtherBelowTheIncident) {
  const Json spans = spans_of(incident());
  ASSERT_EQ(spans.size(), 5U);
  EXPECT_EQ(spans[0]["name"], "heal");
  EXPECT_EQ(spans[0]["endTimeUnixNano"], "6000");
  for (size_t i = 1; i < spans.size(); ++i) {
    EXPECT_EQ(spans[i]["parentSpanId"], spans[0]["spanId"]);
    EXPECT_EQ(spans[i]["traceId"], spans[0]["traceId"]);
    EXPECT_EQ(spans[i]["startTimeUnixNano"], std::to_string(i * 1'000));
    EXPECT_EQ(spans[i]["endTimeUnixNano"], std::to_string((i + 1) * 1'000));
    EXPECT_NE(spans[i]["spanId"], spans[i - 1]["spanId"]);
  }
  EXPECT_EQ(spans_of(incident()), spans) << "sent twice it is one trace";
}

TEST(HealingTraceTest, LinksLeadToTheRequestsThatHadATrace) {
  const Json links = spans_of(incident())[0]["links"];
  ASSERT_EQ(links.size(), 1U);
  EXPECT_EQ(links[0]["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(links[0]["spanId"], "00f067aa0ba902b7");
  Incident many = incident();
  many.requests_in_flight.assign(3, many.requests_in_flight[1]);
  EXPECT_EQ(spans_of(many)[0]["links"].size(), 1U) << "the same one";
  many.requests_in_flight.clear();
  for (int i = 100; i < 200; ++i) {
    many.requests_in_flight.push_back("GET /, 1.0 s, traceparent 00-" + std::string(32, 'a') + "-" +
                                      std::string(13, 'b') + std::to_string(i) + "-01");
  }
  EXPECT_EQ(spans_of(many)[0]["links"].size(), trace_links_max);
}

TEST(HealingTraceTest, WhatWasNotReachedHasNoSpanAndIsAnError) {
  Incident lost = incident();
  lost.acted_at_unix_ns = 0;
  lost.ready_at_unix_ns = 0;
  lost.closed_reason = ClosedReason::kGaveUp;
  const Json spans = spans_of(lost);
  ASSERT_EQ(spans.size(), 3U);
  EXPECT_EQ(spans[0]["status"]["code"], 2);
}

TEST(TraceParentTest, OnlyWhatTheStandardAllowsIsTaken) {
  const std::string good = parent;
  EXPECT_EQ(parse_traceparent(good).span_id, "00f067aa0ba902b7");
  EXPECT_EQ(parse_traceparent("cc" + good.substr(2) + "-more").span_id, "00f067aa0ba902b7");
  const std::string none(32, '0');
  for (const std::string& bad :
       {std::string(), std::string("00"), good + "-more", "ff" + good.substr(2),
        "00-" + none + good.substr(35), good.substr(0, 36) + none.substr(0, 16) + "-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736" + good.substr(35), std::string(55, 'x')}) {
    EXPECT_EQ(parse_traceparent(bad).trace_id, "") << bad;
  }
}

}  // namespace
}  // namespace remora
