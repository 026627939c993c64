// Settings of a policy as annotations, and their schema.
#include "k8s/resources/settings.h"

#include <nlohmann/json.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "k8s/inject/yaml_json.h"
#include "k8s/resources/crds.h"
#include "k8s/resources/message_json.h"
#include "k8s/resources/resources.pb.h"

namespace remora::k8s {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

Json spec_of(const std::string& yaml) {
  const auto spec = yaml_to_json(yaml);
  EXPECT_TRUE(spec.has_value());
  return spec.value_or(Json::object());
}

std::vector<std::string> lines(const config::Problems& problems) {
  std::vector<std::string> text;
  for (const config::Problem& problem : problems) text.push_back(config::format_problem(problem));
  return text;
}

TEST(SettingsTest, EachFormOfValueBecomesItsAnnotation) {
  const PolicySettings settings = read_settings(spec_of(R"(
sidecar:
  detection: {hangWindow: 45s, deadlock: false}
  healing: {ladders: [{fault: crash, steps: [restart, give_up]}], budget: {restartsMax: 4}}
  snapshots: {exclude: ["*.tmp", "cache/*"]}
  readinessProbe: {httpGet: {path: /ready}}
injection: {memoryLimit: 128Mi}
)"));
  EXPECT_THAT(lines(settings.problems), IsEmpty());
  EXPECT_THAT(
      settings.annotations,
      ElementsAre(
          Pair("remora.dev/deadlock-detection", "false"), Pair("remora.dev/hang-window", "45s"),
          Pair("remora.dev/ladders", R"([{"fault":"crash","steps":["restart","give_up"]}])"),
          Pair("remora.dev/memory-limit", "128Mi"),
          Pair("remora.dev/readiness-probe", R"({"httpGet":{"path":"/ready"}})"),
          Pair("remora.dev/restarts-max", "4"),
          Pair("remora.dev/snapshot-exclude", R"(["*.tmp","cache/*"])")));
}

TEST(SettingsTest, WhatIsAbsentNullOrUnknownIsLeftOut) {
  for (const char* spec : {"{}", "sidecar: {}", "sidecar: {detection: null}",
                           "sidecar: {detection: {hangWindow: null, newer: 1}}", "sidecar: [1]",
                           "sidecar: {detection: 5}", "injection: {inject: true}"}) {
    EXPECT_THAT(read_settings(spec_of(spec)).annotations, IsEmpty()) << spec;
  }
}

TEST(SettingsTest, AProblemNamesItsPlaceInThePolicy) {
  const PolicySettings settings = read_settings(spec_of(R"(
sidecar: {detection: {hangWindow: soon}}
injection: {imagePullPolicy: Sometimes}
)"));
  ASSERT_EQ(settings.problems.size(), 2u);
  EXPECT_THAT(lines(settings.problems),
              ElementsAre(testing::StartsWith("spec.sidecar.detection.hangWindow: "),
                          testing::StartsWith("spec.injection.imagePullPolicy: ")));
}

TEST(SettingsTest, TheSchemaHasAllThatAPodMaySetAndNoDefault) {
  const Json spec =
      resource_schema(*v1alpha1::HealingPolicy::descriptor())["properties"]["spec"]["properties"];
  EXPECT_EQ(spec.dump().find("\"command\":{\"description\":\"Program and arguments"),
            std::string::npos)
      << "what no annotation sets";
  for (const config::AnnotationEntry& entry : config::annotation_vocabulary()) {
    if (entry.name == "inject") continue;
    Json::json_pointer at(entry.pod_only ? "/injection" : "/sidecar");
    std::string_view rest = entry.path;
    for (;;) {
      const size_t dot = rest.find('.');
      at /= "properties";
      at /= std::string(rest.substr(0, dot));
      if (dot == rest.npos) break;
      rest.remove_prefix(dot + 1);
    }
    EXPECT_TRUE(spec.contains(at)) << entry.path;
  }
  for (const char* section : {"sidecar", "injection"}) {
    EXPECT_EQ(spec[section].dump().find("\"default\":"), std::string::npos) << section;
  }
  EXPECT_FALSE(spec["injection"]["properties"].contains("inject"));
}

TEST(SettingsTest, TheRestOfThePolicyIsReadWithoutThem) {
  v1alpha1::HealingPolicySpec spec;
  ASSERT_TRUE(
      read_message(spec_of("{selector: {matchLabels: {a: b}}, sidecar: {detection: 5}}"), spec));
  EXPECT_FALSE(spec.has_sidecar());
  EXPECT_FALSE(write_message(spec).contains("sidecar"));
}

}  // namespace
}  // namespace remora::k8s
