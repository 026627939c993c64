// Pods and nodes as facts, and the faults they show.
#include "k8s/healing/facts.h"

#include <nlohmann/json.hpp>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace remora::k8s {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

const WallTime now = *parse_time("2026-01-01T01:00:00Z");

PodFacts pod(const std::string& statuses, const std::string& phase = "Running",
             const std::string& ready = "False") {
  Json body = Json::parse(R"({
    "apiVersion":"v1","kind":"Pod",
    "metadata":{"namespace":"n","name":"p","uid":"u","resourceVersion":"7",
      "creationTimestamp":"2026-01-01T00:00:00Z","labels":{"app":"a"},
      "annotations":{"remora.dev/pause":"true","large":"x"},
      "ownerReferences":[{"kind":"ReplicaSet","name":"rs","uid":"o","controller":true}]},
    "spec":{"nodeName":"n1","containers":[{"name":"agent"}]},
    "status":{"conditions":[{"type":"Ready","status":"READY",
      "lastTransitionTime":"2026-01-01T00:50:00Z"}],"hostIP":"10.0.0.1"}})");
  body["status"]["phase"] = phase;
  body["status"]["conditions"][0]["status"] = ready;
  body["status"]["containerStatuses"] = Json::parse(statuses);
  trim_pod(body);
  return read_pod(*make_object(std::move(body)));
}

std::optional<PodFault> fault_of(const PodFacts& facts, const NodeFacts* node = nullptr) {
  return find_fault(facts, node, nullptr, now, 5min);
}

constexpr const char* running = R"([{"name":"agent","ready":true,"restartCount":0,
  "state":{"running":{"startedAt":"2026-01-01T00:00:00Z"}}}])";

TEST(FactsTest, APodIsReadAndTrimmedToWhatIsRead) {
  const PodFacts facts = pod(running, "Running", "True");
  EXPECT_EQ(facts.namespace_name, "n");
  EXPECT_EQ(facts.uid, "u");
  EXPECT_EQ(facts.resource_version, "7");
  EXPECT_EQ(facts.node, "n1");
  EXPECT_EQ(facts.owner(), "ReplicaSet/rs");
  EXPECT_EQ(facts.labels.at("app"), "a");
  EXPECT_TRUE(facts.paused);
  EXPECT_TRUE(facts.ready);
  EXPECT_FALSE(facts.deleting);
  ASSERT_EQ(facts.containers.size(), 1u);
  EXPECT_TRUE(facts.containers[0].running);
  EXPECT_FALSE(fault_of(facts));
}

TEST(FactsTest, EachFaultHasItsKind) {
  struct Case {
    const char* statuses;
    FaultKind kind;
    const char* summary;
  };
  const Case cases[] = {
      {R"([{"name":"agent","restartCount":6,"state":{"waiting":{"reason":"CrashLoopBackOff"}},
        "lastState":{"terminated":{"exitCode":3,"reason":"Error",
        "finishedAt":"2026-01-01T00:59:00Z"}}}])",
       FaultKind::kCrashLoop, "code 3"},
      {R"([{"name":"agent","restartCount":2,"state":{"waiting":{"reason":"CrashLoopBackOff"}},
        "lastState":{"terminated":{"exitCode":137,"reason":"OOMKilled"}}}])",
       FaultKind::kOutOfMemory, "want of memory"},
      {R"([{"name":"agent","restartCount":1,"state":{"running":{}},
        "lastState":{"terminated":{"exitCode":137,"reason":"OOMKilled"}}}])",
       FaultKind::kOutOfMemory, "1 restarts"},
      {R"([{"name":"agent","state":{"waiting":{"reason":"ImagePullBackOff","message":"no such"}}}])",
       FaultKind::kImagePull, "no such"},
      {R"([{"name":"agent","state":{"waiting":{"reason":"CreateContainerConfigError",
        "message":"secret \"x\" not found"}}}])",
       FaultKind::kConfigError, "secret \"x\" not found"},
      {R"([{"name":"agent","ready":false,"state":{"running":{}}}])", FaultKind::kUnready, "600 s"},
  };
  for (const Case& c : cases) {
    const auto fault = fault_of(pod(c.statuses));
    ASSERT_TRUE(fault) << c.summary;
    EXPECT_EQ(fault->kind, c.kind) << c.summary;
    EXPECT_THAT(fault->summary, HasSubstr(c.summary));
    EXPECT_EQ(fault_kind_of(to_string(c.kind)), c.kind);
  }
  EXPECT_FALSE(fault_kind_of("nonsense"));
}

// Seen in between: a crash loop must not turn into another fault, whose ladder evicts.
TEST(FactsTest, BetweenTwoCrashesNothingElseIsFound) {
  const char* const moments[] = {
      R"([{"name":"agent","restartCount":3,"state":{"terminated":{"exitCode":7,"reason":"Error",
        "finishedAt":"2026-01-01T00:59:58Z"}}}])",
      R"([{"name":"agent","restartCount":4,"state":{"running":{"startedAt":"2026-01-01T00:59:00Z"}},
        "lastState":{"terminated":{"exitCode":7,"reason":"Error",
        "finishedAt":"2026-01-01T00:58:00Z"}}}])"};
  for (const char* moment : moments) EXPECT_FALSE(fault_of(pod(moment))) << moment;
  const auto fault = fault_of(pod(R"([{"name":"agent","restartCount":4,
      "state":{"running":{"startedAt":"2026-01-01T00:52:00Z"}}}])"));
  ASSERT_TRUE(fault) << "it has run for long enough";
  EXPECT_EQ(fault->kind, FaultKind::kUnready);
  EXPECT_THAT(fault->summary, HasSubstr("480 s"));
}

TEST(FactsTest, WhatCanNotBeStartedIsTheSameFaultBetweenItsTries) {
  for (const char* moment :
       {R"([{"name":"agent","state":{"waiting":{"reason":"RunContainerError"}}}])",
        R"([{"name":"agent","restartCount":2,"state":{"waiting":{"reason":"CrashLoopBackOff"}},
          "lastState":{"terminated":{"exitCode":128,"reason":"StartError"}}}])"}) {
    const auto fault = fault_of(pod(moment));
    ASSERT_TRUE(fault) << moment;
    EXPECT_EQ(fault->kind, FaultKind::kConfigError) << moment;
  }
}

TEST(FactsTest, OneCrashThatIsOverIsNoFault) {
  EXPECT_FALSE(fault_of(pod(R"([{"name":"agent","ready":true,"restartCount":1,
    "state":{"running":{}},"lastState":{"terminated":{"exitCode":1,"reason":"Error"}}}])",
                            "Running", "True")));
}

TEST(FactsTest, ALostNodeExplainsEverythingOnIt) {
  const NodeFacts node{.name = "n1", .ready = false, .why = "no heartbeat", .since = now - 1min};
  const auto fault = fault_of(pod(running, "Running", "True"), &node);
  ASSERT_TRUE(fault);
  EXPECT_EQ(fault->kind, FaultKind::kNodeUnready);
  EXPECT_EQ(fault->began_at, now - 1min);
}

TEST(FactsTest, WhatHasEndedOrIsLeavingHasNoFault) {
  const NodeFacts node{.name = "n1", .ready = false, .why = {}, .since = {}};
  EXPECT_FALSE(fault_of(pod("[]", "Failed"), &node));
  EXPECT_FALSE(fault_of(pod("[]", "Succeeded"), &node));
  PodFacts leaving = pod(running);
  leaving.deleting = true;
  EXPECT_FALSE(fault_of(leaving, &node));
}

TEST(FactsTest, APodThatHasNotBeenReadyForAMomentOnlyIsNoFault) {
  EXPECT_FALSE(find_fault(pod(R"([{"name":"agent","state":{"running":{}}}])"), nullptr, nullptr,
                          now, 11min));
  EXPECT_FALSE(fault_of(pod("[]", "Pending")));
}

TEST(FactsTest, ANodeIsReadByItsConditionReady) {
  Json body = Json::parse(R"({"metadata":{"name":"n1","resourceVersion":"1"},
    "status":{"capacity":{},"conditions":[{"type":"MemoryPressure","status":"False"},
    {"type":"Ready","status":"Unknown","message":"Kubelet stopped posting node status.",
     "lastTransitionTime":"2026-01-01T00:59:00Z"}]}})");
  trim_node(body);
  const NodeFacts node = read_node(*make_object(std::move(body)));
  EXPECT_FALSE(node.ready);
  EXPECT_THAT(node.why, HasSubstr("stopped posting"));
  EXPECT_EQ(node.since, now - 1min);
}

TEST(FactsTest, OddObjectsAreReadAsFarAsTheyGo) {
  for (const char* text :
       {R"({"metadata":{"name":"a","resourceVersion":"1"}})",
        R"({"metadata":{"name":"a","resourceVersion":"1","labels":[],"annotations":5,
          "ownerReferences":[5,{"controller":true}]},"spec":[],"status":5})",
        R"({"metadata":{"name":"a","resourceVersion":"1"},"status":{"conditions":[5,null],
          "containerStatuses":[5,null,{"state":5,"lastState":[]}]}})"}) {
    Json body = Json::parse(text);
    trim_pod(body);
    EXPECT_EQ(read_pod(*make_object(body)).name, "a") << text;
    trim_node(body);
    EXPECT_EQ(read_node(*make_object(body)).name, "a") << text;
  }
  for (const char* text : {"5", "[]", "{}", R"({"metadata":5})", R"({"metadata":{"name":"a"}})"}) {
    Json body = Json::parse(text);
    trim_pod(body);
    EXPECT_EQ(make_object(std::move(body)), nullptr) << text;
  }
}

TEST(FactsTest, TimesAreReadAndWritten) {
  EXPECT_EQ(format_time(*parse_time("2026-01-01T01:02:03.000123Z")), "2026-01-01T01:02:03Z");
  for (const char* edge : {"1970-01-01T00:00:00Z", "2199-12-31T23:59:59Z"}) {
    EXPECT_EQ(format_time(parse_time(edge).value()), edge);
  }
  for (const char* bad :
       {"", "2026", "2026-01-01", "2026-01-01T01:02:03", "x", "0255-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z", "2200-01-01T00:00:00Z", "9999-12-31T23:59:59Z"}) {
    EXPECT_FALSE(parse_time(bad)) << bad;
  }
}

}  // namespace
}  // namespace remora::k8s
