// What the plugin says of objects as the API server has them.
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "k8s/healing/facts.h"
#include "k8s/healing/recovery.h"
#include "k8s/kubectl/explain.h"
#include "k8s/kubectl/incidents.h"
#include "k8s/kubectl/status.h"

namespace remora::k8s {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* injected = R"({"version":"0.1.0","agents":[{"name":"agent",
    "ports":[{"port":8000}],"livenessProbe":{"httpGet":{"path":"/healthz"}}}],
    "interception":{"mode":"transparent","inboundPort":15006,"outboundPort":15001},
    "processNamespaceShared":true,"restartPolicy":"Always"})";

Json pod(const std::string& name, Json annotations = Json::object()) {
  annotations["remora.dev/injected"] = injected;
  Json body = Json::parse(R"({"metadata":{"namespace":"shop","labels":{"app":"agent"},
      "resourceVersion":"1"},
    "spec":{"nodeName":"n1","containers":[{"name":"agent","image":"a",
        "ports":[{"containerPort":8000}]}],
      "initContainers":[{"name":"remora","image":"remora:0.1.0"}]},
    "status":{"phase":"Running","containerStatuses":[{"name":"agent","ready":true,
      "restartCount":3,"state":{"running":{}}},{"name":"other","ready":true,"restartCount":9}]}})");
  body["metadata"]["name"] = name;
  body["metadata"]["uid"] = "uid-" + name;
  body["metadata"]["annotations"] = std::move(annotations);
  return body;
}

Json policy() {
  return Json::parse(R"({"metadata":{"name":"agents","namespace":"shop"},
      "spec":{"selector":{"matchLabels":{"app":"agent"}},"stepTimeout":"2m"}})");
}

Json incident() {
  return Json::parse(R"({"metadata":{"name":"i1","namespace":"shop"},
    "spec":{"pod":{"name":"a","uid":"uid-a","node":"n1"},"fault":"node_unready","policy":"agents",
      "summary":"node n1 is gone","beganAt":"2026-01-01T00:00:00Z",
      "detectedAt":"2026-01-01T00:00:14Z"},
    "status":{"phase":"Resolved","recoverySeconds":40,"endedAt":"2026-01-01T00:01:10Z",
      "evidence":["node n1 is gone"],"steps":[
      {"name":"wait","state":"failed","startedAt":"2026-01-01T00:00:15Z",
       "endedAt":"2026-01-01T00:00:20Z"},
      {"name":"reschedule","state":"verified","startedAt":"2026-01-01T00:00:21Z",
       "endedAt":"2026-01-01T00:00:40Z","message":"pod b is ready instead"}]}})");
}

StatusInput input() {
  return {.pods = {pod("a")},
          .policies = {policy()},
          .incidents = {incident()},
          .now = *parse_time("2026-01-01T00:05:14Z")};
}

TEST(StatusTest, OneLineForEachPodThatHasRemora) {
  StatusInput in = input();
  in.pods.push_back(Json::parse(R"({"metadata":{"name":"plain","namespace":"shop","uid":"p",
      "resourceVersion":"1"}})"));
  const StatusReport report = read_status(in);
  ASSERT_EQ(report.pods.size(), 1U);
  EXPECT_EQ(report.pods[0].restarts, 3);
  EXPECT_EQ(report.pods[0].policy, "agents");
  EXPECT_EQ(render_status(report, Form::kTable, false),
            "POD   AGENTS   STATE     RESTARTS   POLICY   HOLD   LAST FAULT\n"
            "a     1/1      Running   3          agents   -      node_unready Resolved 5m ago\n");
  EXPECT_THAT(render_status(report, Form::kWide, true), HasSubstr("NODE   REMORA\n"));
  const Json json = Json::parse(render_status(report, Form::kJson, false));
  EXPECT_EQ(json["pods"][0]["lastFault"]["ageSeconds"], 300);
  EXPECT_EQ(render_status({}, Form::kTable, false), "no pod here has Remora\n");
}

TEST(StatusTest, WhyNothingWouldBeDoneIsSaid) {
  StatusInput in = input();
  in.pods = {pod("a", {{"remora.dev/pause", "true"}})};
  EXPECT_EQ(read_status(in).pods[0].hold, "pod paused");
  in = input();
  in.policies[0]["spec"]["paused"] = true;
  EXPECT_EQ(read_status(in).pods[0].hold, "policy paused");
  in = input();
  in.policies[0]["status"]["hold"] = "too many are sick";
  EXPECT_EQ(read_status(in).pods[0].hold, "too many are sick");
}

TEST(StatusTest, PodThatAsksAndHasNothingIsNamed) {
  StatusInput in = input();
  in.pods[0]["metadata"]["annotations"] = Json::object();
  in.pods[0]["metadata"]["labels"]["remora.dev/inject"] = "true";
  const StatusReport report = read_status(in);
  EXPECT_THAT(report.without, testing::ElementsAre("shop/a"));
  EXPECT_THAT(render_status(report, Form::kTable, false), HasSubstr("asks for Remora"));
}

TEST(IncidentsTest, TimelineSaysWhereTheTimeWent) {
  EXPECT_THAT(
      render_incident(incident(), Form::kTable),
      testing::AllOf(HasSubstr("40.0 s: detect 14.0 s, decide 1.0 s, act 6.0 s, ready 19.0 s"),
                     HasSubstr("+21 s"), HasSubstr("pod b is ready instead")));
  EXPECT_THAT(
      render_incidents({incident()}, Form::kTable, true, *parse_time("2026-01-01T00:05:14Z")),
      HasSubstr("wait failed, reschedule verified   40.0 s   5m\n"));
  EXPECT_EQ(render_incidents({}, Form::kTable, false, {}), "no incidents\n");
}

TEST(IncidentsTest, WhatTheSidecarDidIsShownWithItsOwnTimes) {
  Json object = incident();
  object["spec"]["fault"] = "crash";
  object["status"]["steps"] = Json::array();
  object["status"]["sidecar"] = Json::parse(R"([{"id":"20260101-crash","fault":"crash",
      "summary":"ended with 3","outcome":"recovered","detectMilliseconds":10,
      "decideMilliseconds":1,"actMilliseconds":1000,"readyMilliseconds":2489,
      "recoveryMilliseconds":3500,"evidence":["exit code 3"],
      "steps":[{"action":"restart","reason":"first","outcome":"ready",
                "startedAt":"2026-01-01T00:00:14Z"}]}])");
  EXPECT_THAT(render_incident(object, Form::kTable),
              testing::AllOf(HasSubstr("3.5 s: detect 0.0 s, decide 0.0 s, act 1.0 s, ready 2.5 s"),
                             HasSubstr("in the pod"), HasSubstr("ended with 3"),
                             HasSubstr("exit code 3"), HasSubstr("restart")));
}

TEST(IncidentsTest, SplitAddsUpWhateverTheTimesAre) {
  v1alpha1::IncidentSpec spec;
  v1alpha1::IncidentStatus status;
  EXPECT_FALSE(recovery_split(spec, status).has_value());
  spec.set_detected_at("2026-01-01T00:00:10Z");
  status.set_phase("Resolved");
  status.set_ended_at("2026-01-01T00:00:30Z");
  auto split = recovery_split(spec, status);
  ASSERT_TRUE(split.has_value());
  EXPECT_EQ(split->total(), std::chrono::seconds(20));
  EXPECT_EQ(split->decide, std::chrono::seconds(20));
  // Clocks that disagree: no part is negative.
  spec.set_began_at("2026-01-01T00:00:20Z");
  status.add_steps()->set_started_at("2026-01-01T00:00:05Z");
  status.add_steps()->set_started_at("2026-01-01T00:09:00Z");
  split = recovery_split(spec, status);
  EXPECT_EQ(split->detect.count(), 0);
  EXPECT_EQ(split->decide.count(), 0);
  EXPECT_EQ(split->act, std::chrono::seconds(20));
  EXPECT_EQ(split->ready.count(), 0);
}

const Setting* find_setting(const Explanation& explanation, const std::string& group,
                            const std::string& name) {
  const Setting* found = nullptr;
  for (const SettingGroup& each : explanation.groups) {
    if (each.title != group) continue;
    for (const Setting& setting : each.settings) {
      if (setting.name == name) found = &setting;
    }
  }
  return found;
}

Explanation explained(const ExplainInput& in) {
  const auto result = explain_pod(in);
  EXPECT_TRUE(result.has_value());
  return result.value_or(Explanation{});
}

void expect_from(const Explanation& explanation, const std::string& group, const std::string& name,
                 const std::string& value, const std::string& from) {
  const Setting* setting = find_setting(explanation, group, name);
  ASSERT_NE(setting, nullptr) << name;
  EXPECT_EQ(setting->value, value);
  EXPECT_EQ(setting->from, from);
}

TEST(ExplainTest, EachValueNamesWhoGaveIt) {
  ExplainInput in{.pod = pod("a", {{"remora.dev/hang-window", "50s"},
                                   {"remora.dev/state-dir.agent", "/data"},
                                   {"remora.dev/config-map", "settings"}}),
                  .policies = {policy()},
                  .config_file = "detection:\n  hangWindow: 45s\nsnapshots:\n  interval: 5m\n"};
  const Explanation explanation = explained(in);
  EXPECT_THAT(explanation.problems, testing::IsEmpty());
  const auto agent = [&](const char* name, const char* value, const char* from) {
    expect_from(explanation, "agent agent", name, value, from);
  };
  agent("detection.hangWindow", "50s", "annotation remora.dev/hang-window");
  agent("agent.stateDir", "/data", "annotation remora.dev/state-dir.agent");
  agent("snapshots.interval", "5m", "ConfigMap settings, line 4");
  agent("agent.appPort", "8000", "the injection");
  agent("livenessProbe", "the container's own", "the pod's manifest");
  ASSERT_NE(find_setting(explanation, "agent agent", "healing.backoff.max"), nullptr);
  EXPECT_TRUE(find_setting(explanation, "agent agent", "healing.backoff.max")->is_default);
  expect_from(explanation, "pod", "configMap", "settings", "annotation remora.dev/config-map");
  expect_from(explanation, "HealingPolicy agents", "stepTimeout", "2m", "HealingPolicy agents");
  expect_from(explanation, "HealingPolicy agents", "stableAfter", "30s", "default");
  const std::string text = render_explanation(explanation, Form::kTable, false);
  EXPECT_THAT(text, HasSubstr("is an agent that listens on 8000"));
  EXPECT_THAT(text, Not(HasSubstr("healing.backoff.max")));
  EXPECT_THAT(render_explanation(explanation, Form::kTable, true),
              HasSubstr("healing.backoff.max"));
  EXPECT_TRUE(Json::accept(render_explanation(explanation, Form::kJson, false)));
}

TEST(ExplainTest, WhatAPolicyHasSetIsThePolicysAndBelowTheConfigMap) {
  ExplainInput in{
      .pod = pod("a", {{"remora.dev/hang-window", "60s"},
                       {"remora.dev/snapshot-interval", "2m"},
                       {"remora.dev/memory-limit", "128Mi"},
                       {"remora.dev/config-map", "settings"},
                       {"remora.dev/policy",
                        R"({"name":"agents","settings":["hang-window","snapshot-interval",
                            "memory-limit"]})"}}),
      .policies = {},
      .config_file = "detection: {hangWindow: 45s}\n"};
  const Explanation explanation = explained(in);
  expect_from(explanation, "agent agent", "detection.hangWindow", "45s",
              "ConfigMap settings, line 1");
  expect_from(explanation, "agent agent", "snapshots.interval", "2m", "HealingPolicy agents");
  expect_from(explanation, "pod", "memoryLimit", "128Mi", "HealingPolicy agents");
}

// Such a sidecar is told of what changes in its policy.
TEST(ExplainTest, BesideALinkThePolicyIsTheOneOfToday) {
  ExplainInput in{
      .pod = pod("a", {{"remora.dev/hang-window", "60s"},
                       {"remora.dev/snapshot-interval", "2m"},
                       {"remora.dev/policy",
                        R"({"name":"old","settings":["hang-window","snapshot-interval"]})"}}),
      .policies = {policy()},
      .config_file = {}};
  in.policies[0]["spec"]["sidecar"]["detection"]["hangWindow"] = "20s";
  expect_from(explained(in), "agent agent", "detection.hangWindow", "1m", "HealingPolicy old");
  Json record = Json::parse(injected);
  record["link"] = {{"address", "remora.remora-system:8443"}};
  in.pod["metadata"]["annotations"]["remora.dev/injected"] = record.dump();
  const Explanation linked = explained(in);
  expect_from(linked, "agent agent", "detection.hangWindow", "20s", "HealingPolicy agents");
  const Setting* interval = find_setting(linked, "agent agent", "snapshots.interval");
  EXPECT_TRUE(interval == nullptr || interval->is_default);
  // What it says now can't be used: the sidecar was told nothing.
  in.policies[0]["spec"]["sidecar"]["detection"]["hangWindow"] = "no time";
  expect_from(explained(in), "agent agent", "detection.hangWindow", "1m", "HealingPolicy old");
}

TEST(ExplainTest, DefaultsThatTheApiServerFilledInAreDefaults) {
  ExplainInput in{.pod = pod("a"), .policies = {policy()}, .config_file = {}};
  in.policies[0]["spec"]["stableAfter"] = "30s";
  in.policies[0]["metadata"]["managedFields"] =
      Json::parse(R"([{"fieldsV1":{"f:spec":{"f:stepTimeout":{}}}}])");
  const Explanation explanation = explained(in);
  expect_from(explanation, "HealingPolicy agents", "stepTimeout", "2m", "HealingPolicy agents");
  expect_from(explanation, "HealingPolicy agents", "stableAfter", "30s", "default");
}

TEST(ExplainTest, WhatIsWrongAndWhatIsSecretIsSaidSo) {
  ExplainInput in{
      .pod = pod("a", {{"remora.dev/hang-window", "soon"}, {"remora.dev/config-map", "settings"}}),
      .policies = {},
      .config_file = "agent: {env: {TOKEN: hunter2}}\n"};
  const Explanation explanation = explained(in);
  EXPECT_THAT(explanation.problems, testing::Contains(HasSubstr("hang-window")));
  EXPECT_THAT(render_explanation(explanation, Form::kTable, true), Not(HasSubstr("hunter2")));
  Json bare = pod("a");
  bare["metadata"]["annotations"] = Json::object();
  EXPECT_THAT(explain_pod({.pod = bare, .policies = {}, .config_file = {}}).error().message,
              HasSubstr("remora.dev/inject"));
}

}  // namespace
}  // namespace remora::k8s
