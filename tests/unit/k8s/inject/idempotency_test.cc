// An injected pod comes back: from the API server with its defaults, from other webhooks with their
// additions, from people with their own ideas.
#include <gmock/gmock.h>

#include "tests/unit/k8s/inject/inject_fixture.h"

namespace remora::k8s {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Json full_pod() {
  Json pod = pod_of(R"(
metadata: {name: agent, annotations: {remora.dev/state-dir: /data, remora.dev/containers: "agent, tools"}}
spec:
  securityContext: {runAsUser: 1000, runAsGroup: 1000}
  initContainers: [{name: migrate}]
  containers:
    - name: agent
      ports: [{name: http, containerPort: 8000}]
      volumeMounts: [{name: state, mountPath: /data}]
      livenessProbe: {httpGet: {path: /live, port: http}, periodSeconds: 5}
    - name: tools
      ports: [{name: grpc, containerPort: 9000}]
      volumeMounts: [{name: state, mountPath: /data}]
      readinessProbe: {grpc: {port: 9000}}
  volumes: [{name: state, emptyDir: {}}]
)");
  return pod;
}

// What the API server adds to what we wrote.
void add_server_defaults(Json& pod) {
  for (Json& volume : pod["spec"]["volumes"]) {
    if (!volume.contains("downwardAPI")) continue;
    volume["downwardAPI"]["defaultMode"] = 420;
    for (Json& item : volume["downwardAPI"]["items"]) item["fieldRef"]["apiVersion"] = "v1";
  }
  for (const std::string list : {"initContainers", "containers"}) {
    for (Json& container : pod["spec"][list]) {
      container["terminationMessagePath"] = "/dev/termination-log";
      for (const std::string probe : {"startupProbe", "livenessProbe", "readinessProbe"}) {
        if (!container.contains(probe)) continue;
        container[probe]["successThreshold"] = 1;
        if (container[probe].contains("httpGet")) container[probe]["httpGet"]["scheme"] = "HTTP";
      }
    }
  }
}

TEST(InjectionNotIdempotentTest, FeedingTheMutatedPodBackYieldsAnEmptyPatch) {
  for (Json pod : {simple_pod(), full_pod()}) {
    for (const std::string mode : {"transparent", "explicit", "none"}) {
      annotate(pod, "interception", mode);
      Injected first = inject(pod);
      EXPECT_EQ(inject(first.pod).patch.json, "[]") << mode;
      add_server_defaults(first.pod);
      EXPECT_EQ(inject(first.pod).patch.json, "[]") << mode << " with the server's defaults";
    }
  }
}

// What the API server's plugin ServiceAccount does, before it asks us and after.
void add_account_token(Json& pod) {
  Json& volumes = pod["spec"]["volumes"];
  if (find_named(&volumes, "name", "kube-api-access-x7x2k") == nullptr) {
    volumes.push_back({{"name", "kube-api-access-x7x2k"}, {"projected", Json::object()}});
  }
  for (const std::string list : {"initContainers", "containers"}) {
    if (!pod["spec"].contains(list)) continue;
    for (Json& container : pod["spec"][list]) {
      const std::string path = "/var/run/secrets/kubernetes.io/serviceaccount";
      if (mount_of(container, path) != nullptr) continue;
      container["volumeMounts"].push_back(
          {{"name", "kube-api-access-x7x2k"}, {"readOnly", true}, {"mountPath", path}});
    }
  }
}

TEST(InjectionNotIdempotentTest, TheApiServerFindsNothingToAddAndAsksNoSecondTime) {
  for (Json pod : {simple_pod(), full_pod()}) {
    add_account_token(pod);
    const Injected first = inject(pod);
    Json after = first.pod;
    add_account_token(after);
    EXPECT_EQ(after, first.pod);
  }
}

TEST(InjectionNotIdempotentTest, OurContainersGetNoTokenThatThePodsOwnDoNotHave) {
  const std::string path = "/var/run/secrets/kubernetes.io/serviceaccount";
  Json pod = simple_pod();
  EXPECT_EQ(mount_of(inject(pod).sidecar(), path), nullptr);
  // One that somebody chose for the agent alone.
  pod["spec"]["volumes"] = Json::array({{{"name", "token"}, {"projected", Json::object()}}});
  pod["spec"]["containers"][0]["volumeMounts"] =
      Json::array({{{"name", "token"}, {"mountPath", path}}});
  EXPECT_EQ(mount_of(inject(pod).sidecar(), path), nullptr);
}

TEST(InjectionNotIdempotentTest, AnotherVersionOrNamespaceDoesNotChangeAnInjectedPod) {
  const Injected first = inject(full_pod());
  InjectOptions later = test_options();
  later.product_version = "9.9.9";
  later.image = "remora:later";
  later.pod_security = PodSecurity::kRestricted;
  EXPECT_EQ(inject(first.pod, later).patch.json, "[]");
}

TEST(InjectionNotIdempotentTest, AnotherWebhookAddsAContainer) {
  Injected first = inject(simple_pod());
  Json& containers = first.pod["spec"]["containers"];
  containers.insert(containers.begin(), pod_of(R"(
name: mesh
ports: [{containerPort: 9901}]
readinessProbe: {tcpSocket: {port: 9901}}
)"));
  Json& init = first.pod["spec"]["initContainers"];
  init.insert(init.begin(), pod_of("name: mesh-init"));
  const Injected second = inject(first.pod);
  EXPECT_EQ(second.record().agents(0).name(), "agent") << "still whose agent it was";
  EXPECT_EQ(second.pod["spec"]["containers"][0], first.pod["spec"]["containers"][0]);
  EXPECT_EQ(second.pod["spec"]["initContainers"].size(), 3u) << "no second sidecar";
  EXPECT_EQ(second.pod["spec"]["initContainers"][0]["name"], "mesh-init") << "no fight for order";
  EXPECT_THAT(second.all_warnings(), HasSubstr("init container mesh-init runs before Remora"));
  // Its probe must not meet a port that only looks open.
  EXPECT_THAT(second.record().interception().exclude_inbound_ports(), ElementsAre("9901"));
  EXPECT_THAT(second.container("initContainers", "remora-intercept")["args"].dump(),
              HasSubstr("--exclude-inbound-port=9901"));
  EXPECT_EQ(inject(second.pod).patch.json, "[]");
}

TEST(InjectionNotIdempotentTest, AProbeAddedLaterIsRewrittenAndTheFirstOneStaysRecorded) {
  Injected first = inject(full_pod());
  first.pod["spec"]["containers"][0]["readinessProbe"] = {
      {"httpGet", {{"path", "/ready"}, {"port", 8000}}}};
  const Injected second = inject(first.pod);
  const config::Injected record = second.record();
  EXPECT_EQ(record.agents(0).readiness_probe().http_get().path(), "/ready");
  EXPECT_EQ(record.agents(0).liveness_probe().http_get().path(), "/live")
      << "not the rewritten one";
  EXPECT_EQ(second.agent()["readinessProbe"]["httpGet"]["path"], "/probe/agent/readiness");
  EXPECT_EQ(inject(second.pod).patch.json, "[]");
}

TEST(UserOverridesLostTest, ASidecarThatIsThereKeepsWhatItSays) {
  Json pod = simple_pod();
  pod["spec"]["initContainers"] = Json::array({pod_of(R"(
name: remora
image: mine:1
resources: {limits: {memory: 1Gi}}
securityContext: {runAsUser: 0, capabilities: {add: [SYS_PTRACE]}}
env: [{name: EXTRA, value: "1"}]
startupProbe: {exec: {command: [x]}}
volumeMounts: [{name: mine, mountPath: /mine}]
)")});
  const Injected injected = inject(pod);
  const Json& sidecar = injected.sidecar();
  EXPECT_EQ(sidecar["image"], "mine:1");
  EXPECT_EQ(sidecar["resources"], Json::parse(R"({"limits":{"memory":"1Gi"}})"));
  EXPECT_EQ(sidecar["securityContext"]["runAsUser"], 0);
  EXPECT_FALSE(sidecar["securityContext"].contains("runAsNonRoot")) << "would never start";
  EXPECT_EQ(sidecar["securityContext"]["capabilities"]["add"], Json::array({"SYS_PTRACE"}));
  EXPECT_EQ(sidecar["securityContext"]["allowPrivilegeEscalation"], false);
  EXPECT_EQ(env_of(sidecar, "EXTRA"), "1");
  EXPECT_EQ(sidecar["startupProbe"], Json::parse(R"({"exec":{"command":["x"]}})"));
  EXPECT_NE(mount_of(sidecar, "/mine"), nullptr);
  EXPECT_NE(mount_of(sidecar, "/etc/remora/pod"), nullptr);
  EXPECT_EQ(sidecar["restartPolicy"], "Always");
  EXPECT_EQ(inject(injected.pod).patch.json, "[]");
}

TEST(UserOverridesLostTest, WhatOthersSetAfterwardsIsKept) {
  Injected first = inject(simple_pod());
  for (Json& container : first.pod["spec"]["initContainers"]) {
    container["imagePullPolicy"] = "Always";
    container["securityContext"]["runAsUser"] = 4242;
    container["args"] = Json::array({"mine"});
  }
  first.pod["spec"]["containers"][0]["env"][0]["value"] = "agent";
  first.pod["spec"]["shareProcessNamespace"] = false;
  const Injected second = inject(first.pod);
  EXPECT_EQ(second.sidecar()["securityContext"]["runAsUser"], 4242);
  EXPECT_EQ(second.sidecar()["args"], Json::array({"mine"}));
  EXPECT_EQ(second.pod["spec"]["shareProcessNamespace"], false);
  EXPECT_FALSE(second.record().process_namespace_shared());
}

TEST(UserOverridesLostTest, ARecordThatIsNotOursIsRefused) {
  Json pod = simple_pod();
  annotate(pod, "injected", "{broken");
  EXPECT_THAT(problems_of(pod), ElementsAre(HasSubstr("remora.dev/injected: is not what the "
                                                      "injection wrote; remove it")));
}

TEST(UserOverridesLostTest, ARewrittenProbeWithoutItsRecordIsSaid) {
  Injected first = inject(full_pod());
  first.pod["metadata"]["annotations"].erase("remora.dev/injected");
  EXPECT_THAT(inject(first.pod).all_warnings(),
              HasSubstr("livenessProbe already asks Remora, but the original one is not recorded"));
}

}  // namespace
}  // namespace remora::k8s
