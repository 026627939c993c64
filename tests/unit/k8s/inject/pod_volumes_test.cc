// Where state and snapshots lie, and that both sides see the same.
#include <gmock/gmock.h>

#include "tests/unit/k8s/inject/inject_fixture.h"

namespace remora::k8s {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const Json& volume(const Injected& injected, const std::string& name) {
  static const Json nothing;
  const Json* found = find_named(&injected.pod["spec"]["volumes"], "name", name);
  EXPECT_NE(found, nullptr) << name;
  return found == nullptr ? nothing : *found;
}

TEST(PodVolumesTest, ThePodTellsItsAnnotationsAndLabels) {
  const Injected injected = inject(simple_pod());
  EXPECT_EQ(volume(injected, "remora-pod")["downwardAPI"], Json::parse(R"({"items":[
      {"path":"annotations","fieldRef":{"fieldPath":"metadata.annotations"}},
      {"path":"labels","fieldRef":{"fieldPath":"metadata.labels"}}]})"));
  EXPECT_EQ((*mount_of(injected.sidecar(), "/etc/remora/pod"))["readOnly"], true);
}

TEST(PodVolumesTest, SnapshotsLieInTheClaimOrLiveAsLongAsThePod) {
  Json pod = simple_pod();
  EXPECT_TRUE(volume(inject(pod), "remora-store").contains("emptyDir"));
  annotate(pod, "snapshot-claim", "agent-snapshots");
  EXPECT_EQ(volume(inject(pod), "remora-store")["persistentVolumeClaim"]["claimName"],
            "agent-snapshots");
}

TEST(PodVolumesTest, TheAdminSocketIsNotInAStoreThatPodsOfANodeMayShare) {
  const Injected injected = inject(simple_pod());
  EXPECT_TRUE(volume(injected, "remora-run").contains("emptyDir"));
  EXPECT_EQ((*mount_of(injected.sidecar(), "/run/remora"))["name"], "remora-run");
  EXPECT_EQ(mount_of(injected.sidecar(), "/run/remora")->contains("readOnly"), false);
}

TEST(PodVolumesTest, AVolumeOfThePodMayKeepThem) {
  Json pod = simple_pod();
  annotate(pod, "snapshot-volume", "snaps");
  EXPECT_THAT(problems_of(pod), ElementsAre(HasSubstr("\"snaps\" is no volume of this pod")));
  InjectOptions stateful = test_options();
  stateful.later_volumes = {"snaps"};
  EXPECT_EQ((*mount_of(inject(pod, stateful).sidecar(), "/var/lib/remora"))["name"], "snaps");
  pod["spec"]["volumes"] = Json::array({pod_of("{name: snaps, emptyDir: {}}")});
  EXPECT_EQ((*mount_of(inject(pod).sidecar(), "/var/lib/remora"))["name"], "snaps");
}

TEST(PodVolumesTest, StateOnAVolumeIsMountedInTheSidecarToo) {
  Json pod = simple_pod();
  pod["spec"]["volumes"] = Json::array({pod_of("{name: data, emptyDir: {}}")});
  pod["spec"]["containers"][0]["volumeMounts"] =
      Json::array({pod_of("{name: other, mountPath: /}"),
                   pod_of("{name: data, mountPath: /data/, subPath: a}")});
  annotate(pod, "state-dir", "/data/agent/");
  const Injected injected = inject(pod);
  EXPECT_EQ(*mount_of(injected.sidecar(), "/data/"),
            Json::parse(R"({"name":"data","mountPath":"/data/","subPath":"a"})"));
  EXPECT_EQ(env_of(injected.agent(), "REMORA_STATE_DIR"), "/data/agent/");
  EXPECT_EQ(injected.agent()["volumeMounts"], pod["spec"]["containers"][0]["volumeMounts"]);
}

TEST(PodVolumesTest, StateInTheContainerItselfGetsAVolume) {
  Json pod = simple_pod();
  annotate(pod, "state-dir", "/data");
  const Injected injected = inject(pod);
  EXPECT_EQ(*mount_of(injected.sidecar(), "/data"), *mount_of(injected.agent(), "/data"));
  EXPECT_TRUE(volume(injected, "remora-state-agent").contains("emptyDir"));
  EXPECT_THAT(injected.all_warnings(), HasSubstr("what its image has in /data is hidden"));
}

TEST(PodVolumesTest, TwoAgentsNeedPathsOfTheirOwnUnlessTheyShareTheVolume) {
  Json pod = simple_pod();
  pod["spec"]["containers"].push_back(pod_of("{name: tools}"));
  annotate(pod, "containers", "agent, tools");
  annotate(pod, "state-dir", "/data");
  EXPECT_THAT(problems_of(pod), ElementsAre(HasSubstr("remora.dev/state-dir.tools")));
  annotate(pod, "state-dir.tools", "/tools");
  EXPECT_THAT(problems_of(pod), IsEmpty());
  pod["metadata"]["annotations"].erase("remora.dev/state-dir.tools");
  pod["spec"]["volumes"] = Json::array({pod_of("{name: data, emptyDir: {}}")});
  for (Json& container : pod["spec"]["containers"]) {
    container["volumeMounts"] = Json::array({pod_of("{name: data, mountPath: /data}")});
  }
  EXPECT_THAT(problems_of(pod), IsEmpty());
}

TEST(PodVolumesTest, PathsThatCannotBeStateAreRefused) {
  for (const std::string path :
       {"data", "/", "/var/lib/remora/x", "/etc/remora", "/a/../etc/remora"}) {
    Json pod = simple_pod();
    annotate(pod, "state-dir", path);
    EXPECT_THAT(problems_of(pod), testing::Not(IsEmpty())) << path;
  }
}

TEST(PodVolumesTest, WhatRemoraCannotFollowIsRefused) {
  Json pod = simple_pod();
  annotate(pod, "state-dir", "/data");
  pod["spec"]["containers"][0]["volumeMounts"] =
      Json::array({pod_of("{name: d, mountPath: /data, subPathExpr: $(POD)}")});
  EXPECT_THAT(problems_of(pod), ElementsAre(HasSubstr("subPathExpr")));
}

TEST(PodVolumesTest, ALinkHasATokenAndTheAuthoritiesAsTheyAreLater) {
  InjectOptions linked = test_options();
  linked.link = {.address = "operator.remora-system.svc:9444", .trusted_pem = "PEM"};
  const Injected injected = inject(simple_pod(), linked);
  EXPECT_EQ((*mount_of(injected.sidecar(), "/var/run/secrets/remora.dev/link"))["name"],
            "remora-link");
  const Json sources = volume(injected, "remora-link")["projected"]["sources"];
  ASSERT_EQ(sources.size(), 2U);
  EXPECT_EQ(sources[0]["serviceAccountToken"]["audience"], "remora.dev/link");
  EXPECT_EQ(sources[1]["configMap"]["name"], "remora-link-ca");
  EXPECT_EQ(sources[1]["configMap"]["optional"], true) << "no pod waits for it";
  EXPECT_EQ(sources[1]["configMap"]["items"][0]["path"], "ca.crt");
  const Json* of_agent = find_array(injected.pod["spec"]["containers"][0], "volumeMounts");
  EXPECT_EQ(find_named(of_agent, "name", "remora-link"), nullptr) << "not for the agent";
}

}  // namespace
}  // namespace remora::k8s
