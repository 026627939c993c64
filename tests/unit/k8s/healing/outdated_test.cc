// Which pods have other settings than their policy has now.
#include <nlohmann/json.hpp>
#include <string>

#include <gtest/gtest.h>

#include "k8s/healing/plan.h"
#include "k8s/healing/records.h"

namespace remora::k8s {
namespace {

using Settings = std::map<std::string, std::string>;

PolicyRecord policy(const char* settings) {
  const Json object = {{"metadata", {{"name", "p"}, {"generation", 2}}},
                       {"spec", Json::parse(settings)}};
  return *read_policy(object);
}

const char* const window_45 = R"({"selector":{},"sidecar":{"detection":{"hangWindow":"45s"}}})";
const char* const limit_45 =
    R"({"selector":{},"sidecar":{"detection":{"hangWindow":"45s"}},
        "injection":{"memoryLimit":"300Mi"}})";

// As the API server has it. from_policy: of those names, without the prefix.
PodFacts pod(const Settings& settings, const std::vector<std::string>& from_policy) {
  Json annotations = {{"remora.dev/injected", "{}"}};
  for (const auto& [name, value] : settings) annotations["remora.dev/" + name] = value;
  if (!from_policy.empty()) {
    annotations["remora.dev/policy"] =
        Json{{"name", "p"}, {"generation", 1}, {"settings", from_policy}}.dump();
  }
  Json body = {{"metadata",
                {{"name", "a"},
                 {"namespace", "n"},
                 {"uid", "u"},
                 {"resourceVersion", "1"},
                 {"annotations", std::move(annotations)}}},
               {"spec", {{"initContainers", Json::array({{{"name", "remora"}}})}}}};
  trim_pod(body);
  return read_pod(*make_object(std::move(body)));
}

TEST(OutdatedTest, APodWithWhatThePolicyHasNowIsNot) {
  EXPECT_FALSE(
      is_outdated(pod({{"hang-window", "45s"}}, {"hang-window"}), policy(window_45), nullptr));
  EXPECT_TRUE(
      is_outdated(pod({{"hang-window", "40s"}}, {"hang-window"}), policy(window_45), nullptr));
  EXPECT_TRUE(is_outdated(pod({}, {}), policy(window_45), nullptr)) << "older than the setting";
  EXPECT_TRUE(is_outdated(pod({{"hang-window", "40s"}}, {"hang-window"}),
                          policy(R"({"selector":{}})"), nullptr))
      << "a setting that the policy has no more";
}

TEST(OutdatedTest, ThePodsOwnWordIsNoDifference) {
  EXPECT_FALSE(is_outdated(pod({{"hang-window", "40s"}}, {}), policy(window_45), nullptr));
}

TEST(OutdatedTest, WhatItsSidecarWasToldSinceCounts) {
  const PodFacts old = pod({{"hang-window", "40s"}}, {"hang-window"});
  ToldSettings told{.policy = "p", .generation = 2, .all_in_force = true};
  EXPECT_FALSE(is_outdated(old, policy(window_45), &told));
  EXPECT_TRUE(is_outdated(old, policy(limit_45), &told)) << "for a pod that is made anew only";
  told.all_in_force = false;
  EXPECT_TRUE(is_outdated(old, policy(window_45), &told));
  told = {.policy = "p", .generation = 1, .all_in_force = true};
  EXPECT_TRUE(is_outdated(old, policy(window_45), &told));
  told = {.policy = "q", .generation = 2, .all_in_force = true};
  EXPECT_TRUE(is_outdated(old, policy(window_45), &told));
}

TEST(OutdatedTest, NobodyIsBehindAPolicyThatCannotBeUsed) {
  const char* const wrong = R"({"selector":{},"sidecar":{"detection":{"hangWindow":"soon"}}})";
  EXPECT_FALSE(is_outdated(pod({}, {}), policy(wrong), nullptr));
}

TEST(OutdatedTest, APodWithoutASidecarHasNoSettings) {
  PodFacts plain = pod({}, {});
  plain.has_sidecar = false;
  EXPECT_FALSE(is_outdated(plain, policy(window_45), nullptr));
}

}  // namespace
}  // namespace remora::k8s
