// Resources from and to the JSON of the API server.
#include "k8s/resources/message_json.h"

#include <nlohmann/json.hpp>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "k8s/resources/resources.pb.h"

namespace remora::k8s {
namespace {

using testing::HasSubstr;

TEST(MessageJsonTest, AbsentFieldsGetTheirDefaults) {
  v1alpha1::HealingPolicySpec spec;
  ASSERT_TRUE(read_message(Json::parse(R"({"selector":{}})"), spec).has_value());
  EXPECT_EQ(spec.budgets().min_healthy_percent(), 50);
  EXPECT_EQ(spec.budgets().window().seconds(), 600);
  EXPECT_EQ(spec.step_timeout().seconds(), 300);
  EXPECT_FALSE(spec.dry_run());
}

TEST(MessageJsonTest, EverythingComesBackAsItWasWritten) {
  const Json json = Json::parse(R"({
    "selector":{"matchLabels":{"a":"b"},"matchExpressions":[
      {"key":"k","operator":"In","values":["x","y"]}]},
    "paused":true,
    "ladders":[{"fault":"crash_loop","steps":["wait","alert"]}],
    "stepTimeout":"1m",
    "budgets":{"minHealthyPercent":80,"stepsMax":1,"window":"1h","coolDown":"10s"},
    "incidentRetention":"1h",
    "stableAfter":"45s",
    "rollback":{"within":"1h"},
    "alerts":{},
    "avoidNodeFor":"10m"})");
  v1alpha1::HealingPolicySpec spec;
  ASSERT_TRUE(read_message(json, spec).has_value());
  EXPECT_EQ(write_message(spec), json);
}

TEST(MessageJsonTest, WhatBreaksTheRulesIsNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {"5", "no object"},
      {"{}", "selector: is missing"},
      {R"({"selector":5})", "selector.is no object"},
      {R"({"selector":{"matchLabels":{"a":5}}})", "matchLabels"},
      {R"({"selector":{},"paused":"yes"})", "paused"},
      {R"({"selector":{},"stepTimeout":"soon"})", "stepTimeout"},
      {R"({"selector":{},"budgets":{"minHealthyPercent":101}})", "budgets.minHealthyPercent"},
      {R"({"selector":{},"ladders":[{"fault":"x","steps":[]}]})", "ladders.fault"},
      {R"({"selector":{"matchExpressions":[{"key":"","operator":"Exists"}]}})", "key: is empty"},
      {R"({"selector":{},"ladders":[{"fault":"unready","steps":[]}]})", "steps: is empty"},
      {R"({"selector":{},"ladders":{}})", "ladders"}};
  for (const auto& [text, part] : cases) {
    v1alpha1::HealingPolicySpec spec;
    const Result<void> read = read_message(Json::parse(text), spec);
    ASSERT_FALSE(read.has_value()) << text;
    EXPECT_THAT(read.error().message, HasSubstr(part)) << text;
  }
}

TEST(MessageJsonTest, MembersOfALaterVersionAreLeftOut) {
  v1alpha1::IncidentSpec spec;
  EXPECT_TRUE(read_message(Json::parse(R"({"pod":{"name":"a","uid":"u","new":[1]},
      "fault":"unready","detectedAt":"2026-01-01T00:00:00Z","later":{}})"),
                           spec)
                  .has_value());
  EXPECT_EQ(spec.pod().name(), "a");
}

}  // namespace
}  // namespace remora::k8s
