// Which pods are left alone, and which are refused.
#include "k8s/inject/gate.h"

#include <gmock/gmock.h>

#include "tests/unit/k8s/inject/inject_fixture.h"

namespace remora::k8s {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Skip skip_of(const Json& pod, const InjectOptions& options = test_options()) {
  const InjectResult result = inject_pod(pod, options);
  const auto* skip = std::get_if<Skip>(&result);
  EXPECT_NE(skip, nullptr) << "was not left alone";
  return skip == nullptr ? Skip{} : *skip;
}

TEST(HostNetworkTest, APodThatWouldBreakTheNodeIsAdmittedUnchangedWithAWarning) {
  Json pod = simple_pod();
  annotate(pod, "inject", "true");
  pod["spec"]["hostNetwork"] = true;
  const Skip skip = skip_of(pod);
  EXPECT_TRUE(skip.warn);
  EXPECT_THAT(skip.reason, HasSubstr("hostNetwork"));
  pod["spec"]["hostNetwork"] = false;
  EXPECT_GT(inject(pod).patch.operations, 0u);
}

TEST(SystemNamespaceTest, LabelledOrNotItIsAdmittedUnchangedWithAWarning) {
  for (const std::string space : {"kube-system", "kube-public", "kube-node-lease", "remora"}) {
    Json pod = simple_pod();
    pod["metadata"]["labels"]["remora.dev/inject"] = "true";
    pod["metadata"]["namespace"] = space;
    InjectOptions options = test_options();
    options.system_namespaces = {"remora"};
    const Skip skip = skip_of(pod, options);
    EXPECT_TRUE(skip.warn) << space;
    EXPECT_THAT(skip.reason, HasSubstr("the namespace " + space)) << space;
    // Pods of a controller name no namespace; the request does.
    pod["metadata"].erase("namespace");
    options.namespace_name = space;
    EXPECT_TRUE(skip_of(pod, options).warn) << space;
  }
}

TEST(GateTest, OtherPodsThatCannotBeInjectedAreWarnedOf) {
  Json host_pid = simple_pod();
  host_pid["spec"]["hostPID"] = true;
  EXPECT_THAT(skip_of(host_pid).reason, HasSubstr("hostPID"));
  Json windows = simple_pod();
  windows["spec"]["os"] = {{"name", "windows"}};
  EXPECT_THAT(skip_of(windows).reason, HasSubstr("Windows"));
  Json mirror = simple_pod();
  mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "x";
  EXPECT_THAT(skip_of(mirror).reason, HasSubstr("static pod"));
}

TEST(GateTest, ThePodDecidesBeforeItsNamespace) {
  InjectOptions options = test_options();
  Json pod = simple_pod();
  annotate(pod, "inject", "false");
  EXPECT_FALSE(skip_of(pod, options).warn);
  options.inject_by_default = false;
  EXPECT_FALSE(skip_of(simple_pod(), options).warn);
  annotate(pod, "inject", "true");
  EXPECT_GT(inject(pod, options).patch.operations, 0u);
  pod["metadata"]["labels"]["remora.dev/inject"] = "false";
  EXPECT_THAT(skip_of(pod, options).reason, HasSubstr("inject: false"));
  pod["metadata"]["labels"]["remora.dev/inject"] = "maybe";
  EXPECT_THAT(problems_of(pod, options),
              ElementsAre("label remora.dev/inject: \"maybe\" is neither true nor false; write "
                          "true or false"));
}

TEST(AnnotationsAbove262144BytesTest, APodThatAlreadyCarries255KiBIsSkippedWithAReason) {
  Json pod = simple_pod();
  pod["metadata"]["annotations"]["big"] = std::string(config::annotations_bytes_max - 100, 'x');
  const Skip skip = skip_of(pod);
  EXPECT_TRUE(skip.warn);
  EXPECT_THAT(skip.reason, HasSubstr("262144"));
}

TEST(AnnotationsAbove262144BytesTest, OneThatFitsIsInjectedUpToTheLastByte) {
  Json pod = simple_pod();
  const Injected small = inject(pod);
  const size_t record = std::string("remora.dev/injected").size() +
                        text_of(small.pod["metadata"]["annotations"], "remora.dev/injected").size();
  const size_t room = config::annotations_bytes_max - record;
  pod["metadata"]["annotations"]["big"] = std::string(room - 3, 'x');
  const Injected full = inject(pod);
  size_t total = 0;
  for (const auto& [key, value] : full.pod["metadata"]["annotations"].items()) {
    total += key.size() + value.get<std::string>().size();
  }
  EXPECT_EQ(total, config::annotations_bytes_max);
  pod["metadata"]["annotations"]["big"] = std::string(room - 2, 'x');
  EXPECT_TRUE(skip_of(pod).warn);
}

TEST(KubernetesVersionTest, TooOldOnesAreRefusedClearly) {
  for (const std::string version : {"v1.28.4", "1.28+", "v1.9", "0.30"}) {
    InjectOptions options = test_options();
    options.kubernetes_version = version;
    EXPECT_THAT(problems_of(simple_pod(), options),
                ElementsAre(HasSubstr("no native sidecar containers")))
        << version;
  }
  for (const std::string version : {"", "v1.29.0", "1.29+", "v1.34.4-gke.1", "v2.0"}) {
    EXPECT_THAT(check_kubernetes_version(version), IsEmpty()) << version;
  }
  for (const std::string version : {"new", "1", "v.1", "1.x"}) {
    EXPECT_EQ(check_kubernetes_version(version).size(), 1u) << version;
  }
}

TEST(KubernetesVersionTest, MinorsAreCompared) {
  EXPECT_TRUE(has_kubernetes_minor("v1.35.0", 35));
  EXPECT_TRUE(has_kubernetes_minor("1.36+", 35));
  EXPECT_TRUE(has_kubernetes_minor("v2.0.0", 35));
  EXPECT_FALSE(has_kubernetes_minor("v1.34.9", 35));
  EXPECT_FALSE(has_kubernetes_minor("v1.4.0", 35));
  EXPECT_FALSE(has_kubernetes_minor("", 35));
}

TEST(PodSecurityTest, RulesNeedTheLevelPrivileged) {
  for (const PodSecurity level : {PodSecurity::kBaseline, PodSecurity::kRestricted}) {
    InjectOptions options = test_options();
    options.pod_security = level;
    const Injected injected = inject(simple_pod(), options);
    EXPECT_EQ(injected.record().interception().mode(), "explicit");
    EXPECT_THAT(injected.all_warnings(), HasSubstr("interception is explicit, because"));
    Json pod = simple_pod();
    annotate(pod, "interception", "transparent");
    EXPECT_THAT(problems_of(pod, options),
                ElementsAre(HasSubstr("remora.dev/interception: transparent needs an init "
                                      "container with NET_ADMIN")));
  }
}

// https://kubernetes.io/docs/concepts/security/pod-security-standards/, level restricted.
TEST(PodSecurityTest, WhatComesIntoARestrictedPodIsRestrictedItself) {
  InjectOptions options = test_options();
  options.pod_security = PodSecurity::kRestricted;
  Json pod = simple_pod();
  annotate(pod, "state-dir", "/data");
  annotate(pod, "snapshot-claim", "claim");
  annotate(pod, "config-map", "map");
  const Injected injected = inject(pod, options);
  const Json& init = injected.pod["spec"]["initContainers"];
  ASSERT_EQ(init.size(), 1u);
  const Json& context = init[0]["securityContext"];
  EXPECT_EQ(context["runAsNonRoot"], true);
  EXPECT_NE(context.value("runAsUser", 1), 0);
  EXPECT_EQ(context["allowPrivilegeEscalation"], false);
  EXPECT_EQ(context["capabilities"], Json::parse(R"({"drop":["ALL"]})"));
  EXPECT_EQ(context["seccompProfile"]["type"], "RuntimeDefault");
  EXPECT_EQ(context["readOnlyRootFilesystem"], true);
  for (const Json& volume : injected.pod["spec"]["volumes"]) {
    EXPECT_TRUE(volume.contains("emptyDir") || volume.contains("downwardAPI") ||
                volume.contains("configMap") || volume.contains("persistentVolumeClaim"))
        << volume;
  }
}

}  // namespace
}  // namespace remora::k8s
