// Probes of five kinds: those that Remora can make truthfully ask it, the others stay.
#include <gmock/gmock.h>

#include "tests/unit/k8s/inject/inject_fixture.h"

namespace remora::k8s {
namespace {

using testing::HasSubstr;

Json two_agents() {
  return pod_of(R"(
metadata: {name: a, annotations: {remora.dev/containers: "planner, tools"}}
spec:
  securityContext: {runAsUser: 1000, runAsGroup: 1000}
  containers:
    - name: planner
      ports: [{name: http, containerPort: 8000}, {name: tls, containerPort: 8443}]
      startupProbe: {httpGet: {path: /start, port: http, httpHeaders: [{name: A, value: b}]},
                     periodSeconds: 1, failureThreshold: 30}
      livenessProbe: {httpGet: {path: live, port: tls, scheme: HTTPS}, timeoutSeconds: 3,
                      initialDelaySeconds: 4, terminationGracePeriodSeconds: 9}
      readinessProbe: {tcpSocket: {port: http}, successThreshold: 2}
    - name: tools
      ports: [{name: grpc, containerPort: 9000}]
      startupProbe: {exec: {command: [cat, /ready]}}
      livenessProbe: {grpc: {port: 9000, service: health}}
      readinessProbe: {tcpSocket: {port: 9000}}
)");
}

TEST(ProbesFailThroughTheSidecarTest, EachOfFiveKindsOnTwoContainersWithNamedPorts) {
  const Injected injected = inject(two_agents());
  const config::Injected record = injected.record();
  const config::InjectedAgent& planner = record.agents(0);
  const config::InjectedAgent& tools = record.agents(1);

  EXPECT_EQ(planner.startup_probe().http_get().path(), "/start");
  EXPECT_EQ(planner.startup_probe().http_get().port(), 8000) << "named port";
  EXPECT_EQ(planner.startup_probe().http_get().http_headers(0).value(), "b");
  EXPECT_EQ(planner.startup_probe().failure_threshold(), 30);
  EXPECT_EQ(planner.startup_probe().period_seconds(), 1);
  EXPECT_EQ(planner.liveness_probe().http_get().scheme(), "HTTPS");
  EXPECT_EQ(planner.liveness_probe().http_get().path(), "/live");
  EXPECT_EQ(planner.liveness_probe().http_get().port(), 8443);
  EXPECT_EQ(planner.liveness_probe().timeout_seconds(), 3);
  EXPECT_EQ(planner.liveness_probe().period_seconds(), 10) << "Kubernetes' default";
  EXPECT_EQ(planner.liveness_probe().failure_threshold(), 3);
  EXPECT_EQ(planner.readiness_probe().tcp_socket().port(), 8000);
  EXPECT_EQ(planner.readiness_probe().success_threshold(), 2);
  EXPECT_FALSE(tools.has_startup_probe()) << "exec stays with the kubelet";
  EXPECT_EQ(tools.liveness_probe().grpc().port(), 9000);
  EXPECT_EQ(tools.liveness_probe().grpc().service(), "health");
  EXPECT_EQ(tools.readiness_probe().tcp_socket().port(), 9000);

  for (const auto& [container, kind, path] :
       {std::tuple{"planner", "startupProbe", "/probe/planner/startup"},
        std::tuple{"planner", "livenessProbe", "/probe/planner/liveness"},
        std::tuple{"planner", "readinessProbe", "/probe/planner/readiness"},
        std::tuple{"tools", "livenessProbe", "/probe/tools/liveness"},
        std::tuple{"tools", "readinessProbe", "/probe/tools/readiness"}}) {
    const Json& probe = injected.agent(container)[kind];
    EXPECT_EQ(probe["httpGet"], (Json{{"path", path}, {"port", 15020}})) << path;
    EXPECT_FALSE(probe.contains("tcpSocket") || probe.contains("grpc")) << path;
  }
  EXPECT_EQ(injected.agent("planner")["livenessProbe"]["terminationGracePeriodSeconds"], 9);
  EXPECT_EQ(injected.agent("planner")["livenessProbe"]["initialDelaySeconds"], 4);
  EXPECT_EQ(injected.agent("tools")["startupProbe"],
            Json::parse(R"({"exec":{"command":["cat","/ready"]}})"));
}

TEST(AgentProbesTest, TheyFollowAnotherHealthPort) {
  Json pod = two_agents();
  annotate(pod, "health-port", "16020");
  EXPECT_EQ(inject(pod).agent("planner")["livenessProbe"]["httpGet"]["port"], 16020);
}

TEST(AgentProbesTest, WhatRemoraCouldNotMakeTruthfullyStays) {
  Json pod = two_agents();
  Json& planner = pod["spec"]["containers"][0];
  planner["startupProbe"] = {{"httpGet", {{"path", "/"}, {"port", "nowhere"}}}};
  planner["livenessProbe"] = {{"tcpSocket", {{"port", 1}, {"host", "10.0.0.1"}}}};
  planner["readinessProbe"] = {{"novelty", Json::object()}};
  const Injected injected = inject(pod);
  for (const std::string kind : {"startupProbe", "livenessProbe", "readinessProbe"}) {
    EXPECT_EQ(injected.agent("planner")[kind], planner[kind]) << kind;
  }
  const std::string notes = injected.all_notes();
  EXPECT_THAT(notes, HasSubstr("startupProbe stays with the kubelet: the container has no port "
                               "named nowhere"));
  EXPECT_THAT(notes, HasSubstr("livenessProbe stays with the kubelet: it asks another host"));
  EXPECT_THAT(notes, HasSubstr("readinessProbe stays with the kubelet: it is of a kind"));
}

TEST(AgentProbesTest, TheyStayForThoseWhoSaySo) {
  Json pod = two_agents();
  annotate(pod, "rewrite-probes", "false");
  const Injected injected = inject(pod);
  EXPECT_EQ(injected.agent("planner")["livenessProbe"],
            pod["spec"]["containers"][0]["livenessProbe"]);
  EXPECT_THAT(injected.all_warnings(), HasSubstr("the kubelet may kill it"));
}

}  // namespace
}  // namespace remora::k8s
