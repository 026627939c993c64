// A policy's settings in the pods that it selects: below a pod's own annotations, above defaults.
#include <gmock/gmock.h>

#include "tests/unit/k8s/inject/inject_fixture.h"

namespace remora::k8s {
namespace {

using testing::HasSubstr;

InjectOptions with_policy(config::Annotations settings, std::string trouble = {}) {
  InjectOptions options = test_options();
  options.policy =
      std::make_shared<const PolicyDefaults>(PolicyDefaults{.name = "agents",
                                                            .generation = 7,
                                                            .settings = std::move(settings),
                                                            .trouble = std::move(trouble)});
  return options;
}

std::string annotation_of(const Json& pod, const std::string& name) {
  return text_of(pod["metadata"]["annotations"], "remora.dev/" + name);
}

TEST(PolicySettingsTest, HoldWhereThePodSaysNothing) {
  Json pod = simple_pod();
  annotate(pod, "hang-window", "10s");
  const Injected made = inject(pod, with_policy({{"remora.dev/hang-window", "45s"},
                                                 {"remora.dev/restarts-max", "4"},
                                                 {"remora.dev/memory-limit", "128Mi"}}));
  EXPECT_EQ(annotation_of(made.pod, "hang-window"), "10s");
  EXPECT_EQ(annotation_of(made.pod, "restarts-max"), "4");
  EXPECT_EQ(made.sidecar()["resources"]["limits"]["memory"], "128Mi");
  EXPECT_EQ(annotation_of(made.pod, "policy"),
            R"({"name":"agents","generation":7,"settings":["memory-limit","restarts-max"]})");
  EXPECT_THAT(made.all_notes(), HasSubstr("HealingPolicy agents sets memory-limit, restarts-max"));
}

TEST(PolicySettingsTest, AreTakenOnceEvenWhenThePolicyHasChangedSince) {
  const Injected first = inject(simple_pod(), with_policy({{"remora.dev/hang-window", "45s"}}));
  EXPECT_EQ(inject(first.pod, with_policy({{"remora.dev/hang-window", "45s"}})).patch.json, "[]");
  EXPECT_EQ(inject(first.pod, with_policy({{"remora.dev/hang-window", "50s"},
                                           {"remora.dev/restarts-max", "4"}}))
                .patch.json,
            "[]");
}

TEST(PolicySettingsTest, LeaveNoMarkWhereThePodSetsAllItself) {
  Json pod = simple_pod();
  annotate(pod, "hang-window", "10s");
  const Injected made = inject(pod, with_policy({{"remora.dev/hang-window", "45s"}}));
  EXPECT_EQ(annotation_of(made.pod, "policy"), "");
}

// Most pods of a policy may have state, this one hasn't.
TEST(PolicySettingsTest, MayHaveNoEffectHere) {
  const Injected made = inject(simple_pod(), with_policy({{"remora.dev/snapshot-keep-last", "5"}}));
  EXPECT_EQ(annotation_of(made.pod, "snapshot-keep-last"), "5");
  EXPECT_EQ(made.all_warnings().find("HealingPolicy"), std::string::npos) << made.all_warnings();
}

// transparent is what the pod's namespace refuses, and the pod did not ask for it.
TEST(PolicySettingsTest, ThatDoNotSuitThePodDoNotKeepItFromStarting) {
  InjectOptions options = with_policy({{"remora.dev/interception", "transparent"}});
  options.pod_security = PodSecurity::kRestricted;
  const Injected made = inject(simple_pod(), options);
  EXPECT_EQ(annotation_of(made.pod, "policy"), "");
  EXPECT_EQ(made.record().interception().mode(), "explicit");
  EXPECT_THAT(made.all_warnings(), HasSubstr("the settings of HealingPolicy agents are not used"));
  EXPECT_THAT(made.all_warnings(), HasSubstr("remora.dev/interception"));
}

TEST(PolicySettingsTest, WithAnErrorAreNotUsedAndSaidSo) {
  const Injected made = inject(simple_pod(), with_policy({{"remora.dev/hang-window", "soon"}},
                                                         "spec.sidecar.x: is wrong; mend it"));
  EXPECT_EQ(annotation_of(made.pod, "hang-window"), "");
  EXPECT_THAT(made.all_warnings(), HasSubstr("spec.sidecar.x: is wrong"));
}

// What is wrong with the pod itself is said of the pod, with or without a policy.
TEST(PolicySettingsTest, HideNoFaultOfThePods) {
  Json pod = simple_pod();
  annotate(pod, "hang-window", "soon");
  EXPECT_EQ(problems_of(pod, with_policy({{"remora.dev/restarts-max", "4"}})), problems_of(pod));
}

TEST(PolicySettingsTest, ThePauseAnnotationIsKnown) {
  Json pod = simple_pod();
  annotate(pod, "pause", "true");
  EXPECT_TRUE(problems_of(pod).empty());
}

}  // namespace
}  // namespace remora::k8s
