// Which pods have been missed, and how it is told.
#include "k8s/operator/uninjected.h"

#include <nlohmann/json.hpp>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace remora::k8s {
namespace {

using nlohmann::ordered_json;
using testing::HasSubstr;

InjectOptions options() {
  InjectOptions options;
  options.image = "remora:test";
  options.product_version = "9.9.9";
  options.namespace_name = "team";
  options.kubernetes_version = "v1.34.4";
  return options;
}

ordered_json missed_pod() {
  return ordered_json::parse(R"({
    "metadata": {"name": "agent-7", "namespace": "team", "uid": "u-7", "resourceVersion": "12",
                 "labels": {"remora.dev/inject": "true"}},
    "spec": {"securityContext": {"runAsUser": 1000, "runAsGroup": 1000},
             "containers": [{"name": "agent", "image": "agent:1",
                             "ports": [{"containerPort": 8000}]}]},
    "status": {"phase": "Running"}})");
}

TEST(UninjectedTest, APodThatAsksAndHasNoneIsFound) {
  const auto found = find_uninjected(missed_pod(), options());
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->name, "agent-7");
  EXPECT_EQ(found->namespace_name, "team");
  EXPECT_EQ(found->uid, "u-7");
  EXPECT_THAT(found->why, HasSubstr("Delete the pod"));
}

TEST(UninjectedTest, OthersAreRightAsTheyAre) {
  ordered_json injected = missed_pod();
  injected["metadata"]["annotations"]["remora.dev/injected"] = "{}";
  ordered_json done = missed_pod();
  done["status"]["phase"] = "Succeeded";
  ordered_json leaving = missed_pod();
  leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z";
  ordered_json declining = missed_pod();
  declining["metadata"]["labels"]["remora.dev/inject"] = "false";
  ordered_json silent = missed_pod();
  silent["metadata"].erase("labels");
  ordered_json nameless = missed_pod();
  nameless["metadata"].erase("uid");
  for (const ordered_json& pod :
       {injected, done, leaving, declining, silent, nameless, ordered_json(), ordered_json(7)}) {
    EXPECT_FALSE(find_uninjected(pod, options()).has_value()) << pod;
  }
  InjectOptions by_namespace = options();
  by_namespace.inject_by_default = true;
  EXPECT_TRUE(find_uninjected(silent, by_namespace).has_value());
}

TEST(UninjectedTest, TheReasonIsTheOneThatHoldsNow) {
  ordered_json on_host = missed_pod();
  on_host["spec"]["hostNetwork"] = true;
  EXPECT_THAT(find_uninjected(on_host, options())->why, HasSubstr("hostNetwork"));
  ordered_json wrong = missed_pod();
  wrong["metadata"]["annotations"]["remora.dev/app-port"] = "eighty";
  EXPECT_THAT(find_uninjected(wrong, options())->why, HasSubstr("remora.dev/app-port"));
}

TEST(UninjectedTest, TheEventIsTheSameWhoeverTellsIt) {
  const auto pod = find_uninjected(missed_pod(), options());
  const auto event = ordered_json::parse(uninjected_event(*pod, 1'767'225'600, "replica-a"));
  const auto other = ordered_json::parse(uninjected_event(*pod, 1'767'229'200, "replica-b"));
  EXPECT_EQ(event["metadata"]["name"], "agent-7.u-7");
  EXPECT_EQ(event["metadata"], other["metadata"]);
  EXPECT_EQ(event["metadata"]["namespace"], "team");
  EXPECT_EQ(event["involvedObject"]["uid"], "u-7");
  EXPECT_EQ(event["involvedObject"]["namespace"], "team");
  EXPECT_EQ(event["type"], "Warning");
  EXPECT_EQ(event["firstTimestamp"], "2026-01-01T00:00:00Z");
  EXPECT_EQ(event["message"], pod->why);
}

TEST(UninjectedTest, ALongNameIsShortenedToAName) {
  ordered_json pod = missed_pod();
  pod["metadata"]["name"] = std::string(199, 'a') + "-" + std::string(53, 'b');
  const auto found = find_uninjected(pod, options());
  const auto event = ordered_json::parse(uninjected_event(*found, 0, "r"));
  EXPECT_EQ(event["metadata"]["name"], std::string(199, 'a') + ".u-7");
}

}  // namespace
}  // namespace remora::k8s
