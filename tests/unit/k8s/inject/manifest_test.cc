// Files of several documents: pods inside are found, everything else comes out as it went in.
#include "k8s/inject/manifest.h"

#include <gmock/gmock.h>

#include "tests/unit/k8s/inject/inject_fixture.h"

namespace remora::k8s {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

constexpr std::string_view pod_spec = "{containers: [{name: agent}]}";

std::string workload(const std::string& api, const std::string& kind, const std::string& spec) {
  return "apiVersion: " + api + "\nkind: " + kind + "\nmetadata: {name: x}\n" + spec + "\n";
}

ManifestResult run(const std::string& text) { return inject_manifests(text, test_options()); }

TEST(ManifestTest, EveryKindWithAPodInsideIsInjected) {
  const std::string spec(pod_spec);
  for (const auto& [api, kind, body] :
       {std::tuple<std::string, std::string, std::string>{"v1", "Pod", "spec: " + spec},
        {"v1", "PodTemplate", "template: {spec: " + spec + "}"},
        {"v1", "ReplicationController", "spec: {template: {spec: " + spec + "}}"},
        {"apps/v1", "Deployment", "spec: {template: {spec: " + spec + "}}"},
        {"apps/v1", "StatefulSet", "spec: {template: {spec: " + spec + "}}"},
        {"apps/v1", "DaemonSet", "spec: {template: {spec: " + spec + "}}"},
        {"apps/v1", "ReplicaSet", "spec: {template: {spec: " + spec + "}}"},
        {"batch/v1", "Job", "spec: {template: {spec: " + spec + "}}"},
        {"batch/v1", "CronJob", "spec: {jobTemplate: {spec: {template: {spec: " + spec + "}}}}"}}) {
    const ManifestResult result = run(workload(api, kind, body));
    EXPECT_THAT(result.problems, IsEmpty()) << kind;
    EXPECT_THAT(result.text, HasSubstr("name: remora\n")) << kind;
    ASSERT_THAT(result.objects, SizeIs(1)) << kind;
    EXPECT_EQ(result.objects[0].name, "document 1 (" + kind + " x)");
    EXPECT_EQ(run(result.text).text, result.text) << kind << ": not idempotent";
  }
}

TEST(ManifestTest, WhatHasNoPodComesOutByteForByte) {
  for (const std::string text :
       {"", "\n# only a comment\n", "a:   1   # odd\n---\n\n---\nb: {x:   2}",
        "kind: Deployment\napiVersion: example.com/v1\nspec: {template: {spec: {}}}\n",
        "--- # first\nkind: ConfigMap\n...\n---\nkind: Secret\n", "---\n[1,   2]\n---\ntext\n",
        "%YAML 1.2\n---\na: 1\n"}) {
    const ManifestResult result = run(text);
    EXPECT_THAT(result.problems, IsEmpty()) << text;
    EXPECT_EQ(result.text, text);
  }
}

TEST(ManifestTest, ListsAndInlineDocumentsAreLookedInto) {
  const ManifestResult result =
      run("# head\n--- {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Pod, metadata: "
          "{name: p}, spec: " +
          std::string(pod_spec) + "}, {kind: Other}]}\n--- # tail\nk: 1\n");
  EXPECT_THAT(result.problems, IsEmpty());
  ASSERT_THAT(result.objects, SizeIs(1));
  EXPECT_EQ(result.objects[0].name, "document 1 item 1 (Pod p)");
  EXPECT_THAT(result.text, testing::StartsWith("# head\n---\napiVersion: v1\nkind: List\n"));
  EXPECT_THAT(result.text, testing::EndsWith("--- # tail\nk: 1\n"));
}

TEST(ManifestTest, JsonGoesInAndYamlComesOut) {
  const ManifestResult result =
      run("{\t\"apiVersion\":\"v1\",\n\t\"kind\":\"Pod\",\"spec\":{\"containers\":[{\"name\":\"a\"}"
          "]}}");
  EXPECT_THAT(result.problems, IsEmpty());
  EXPECT_THAT(result.text, testing::StartsWith("apiVersion: v1\nkind: Pod\n"));
}

TEST(ManifestTest, ProblemsNameDocumentAnnotationAndMend) {
  const ManifestResult result = run(
      "a: [\n---\n" +
      workload("apps/v1", "Deployment",
               "spec: {template: {metadata: {annotations: {remora.dev/hang-window: 5x}}, spec: " +
                   std::string(pod_spec) + "}}") +
      "---\napiVersion: batch/v1\nkind: Job\nmetadata: {name: j, namespace: n}\n");
  EXPECT_THAT(result.problems,
              ElementsAre(HasSubstr("document 1"),
                          HasSubstr("document 2 (Deployment x): annotation remora.dev/hang-window: "
                                    "detection.hangWindow: \"5x\" is not a duration; write a "
                                    "number"),
                          HasSubstr("document 3 (Job n/j): has no pod at /spec/template")));
}

TEST(ManifestTest, TheNamespaceOfTheObjectCounts) {
  const ManifestResult result =
      run("apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: d, namespace: kube-system}\n"
          "spec: {template: {spec: " +
          std::string(pod_spec) + "}}\n");
  ASSERT_THAT(result.objects, SizeIs(1));
  EXPECT_TRUE(std::holds_alternative<Skip>(result.objects[0].result));
  EXPECT_THAT(result.text, Not(HasSubstr("remora")));
}

TEST(ManifestTest, ReplicasThatWouldShareAClaimAreWarnedOf) {
  const std::string spec =
      "spec: {replicas: 2, template: {metadata: {annotations: {remora.dev/snapshot-claim: c}}, "
      "spec: " +
      std::string(pod_spec) + "}}";
  EXPECT_THAT(run(workload("apps/v1", "Deployment", spec)).objects[0].warnings, SizeIs(1));
}

std::string only_pod(const std::string& spec, const std::string& service_spec) {
  return workload("apps/v1", "Deployment",
                  "spec: {" + spec +
                      "template: {metadata: {labels: {app: x, tier: front}}, spec: " +
                      std::string(pod_spec) + "}}") +
         "---\n" + workload("v1", "Service", "spec: {" + service_spec + "}");
}

TEST(ManifestTest, AServiceOfAnOnlyPodIsToPublishItUnready) {
  const ManifestResult result = run(only_pod("", "selector: {app: x}"));
  EXPECT_THAT(result.objects[0].warnings,
              ElementsAre(HasSubstr("only pod of Service x: while its container")));
  for (const auto& [spec, service] :
       {std::pair<std::string, std::string>{"replicas: 2, ", "selector: {app: x}"},
        {"", "selector: {app: x}, publishNotReadyAddresses: true"},
        {"", "selector: {app: y}"},
        {"", "selector: {app: x, tier: back}"},
        {"", "selector: {app: x, other: x}"},
        {"", "ports: [{port: 80}]"}}) {
    EXPECT_THAT(run(only_pod(spec, service)).objects[0].warnings, IsEmpty()) << spec << service;
  }
}

TEST(ManifestTest, AStatefulSetBringsItsClaimsAsVolumes) {
  const std::string spec =
      "spec: {volumeClaimTemplates: [{metadata: {name: snaps}}], template: {metadata: "
      "{annotations: {remora.dev/snapshot-volume: snaps}}, spec: " +
      std::string(pod_spec) + "}}";
  EXPECT_THAT(run(workload("apps/v1", "StatefulSet", spec)).problems, IsEmpty());
  EXPECT_THAT(run(workload("apps/v1", "Deployment", spec)).problems,
              ElementsAre(HasSubstr("\"snaps\" is no volume")));
}

}  // namespace
}  // namespace remora::k8s
