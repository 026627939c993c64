// What comes into a pod, where, and what stays as it was.
#include "k8s/inject/inject.h"

#include <gmock/gmock.h>

#include "tests/unit/k8s/inject/inject_fixture.h"

namespace remora::k8s {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

TEST(InjectTest, TheSidecarIsANativeOneAndStartsFirst) {
  Json pod = simple_pod();
  pod["spec"]["initContainers"] = Json::array({{{"name", "migrate"}, {"image", "m"}}});
  const Injected injected = inject(pod);
  const Json& init = injected.pod["spec"]["initContainers"];
  ASSERT_EQ(init.size(), 3u);
  EXPECT_EQ(init[0]["name"], "remora-intercept");
  EXPECT_EQ(init[1]["name"], "remora");
  EXPECT_EQ(init[2], pod["spec"]["initContainers"][0]) << "init containers with a need of network";
  EXPECT_EQ(init[1]["restartPolicy"], "Always");
  EXPECT_EQ(init[1]["image"], "remora:test");
  EXPECT_EQ(init[1]["args"],
            Json::parse(R"(["sidecar","--pod-info","/etc/remora/pod","--health-listen=:15020"])"));
  EXPECT_FALSE(init[0].contains("restartPolicy")) << "rules are written once";
}

TEST(InjectTest, TheAgentIsNamedAndItsStartGated) {
  const Injected injected = inject(simple_pod());
  EXPECT_EQ(env_of(injected.agent(), "REMORA_AGENT"), "agent");
  EXPECT_FALSE(injected.sidecar().contains("startupProbe")) << "its period is a second at least";
  EXPECT_EQ(injected.sidecar()["lifecycle"]["postStart"]["exec"]["command"],
            Json::parse(R"(["/usr/local/bin/remora","wait-started","--limit=60"])"));
  EXPECT_EQ(injected.sidecar()["readinessProbe"]["httpGet"]["path"], "/readyz");
  EXPECT_EQ(injected.sidecar()["lifecycle"]["preStop"]["exec"]["command"],
            Json::parse(R"(["/usr/local/bin/remora","drain","--pod-ends"])"));
  EXPECT_EQ(env_of(injected.sidecar(), "REMORA_ADMIN"), "/run/remora/admin.sock");
  EXPECT_EQ(injected.agent()["lifecycle"]["preStop"]["httpGet"],
            Json::parse(R"({"path":"/drained","port":15020})"));
  EXPECT_EQ(injected.pod["spec"]["shareProcessNamespace"], true);
}

TEST(InjectTest, TheRecordSaysWhatTheSidecarCannotSee) {
  const config::Injected record = inject(simple_pod()).record();
  EXPECT_EQ(record.version(), "1.2.3");
  ASSERT_EQ(record.agents_size(), 1);
  EXPECT_EQ(record.agents(0).name(), "agent");
  ASSERT_EQ(record.agents(0).ports_size(), 1);
  EXPECT_EQ(record.agents(0).ports(0).port(), 8000);
  EXPECT_EQ(record.agents(0).ports(0).name(), "http");
  EXPECT_EQ(record.interception().mode(), "transparent");
  EXPECT_EQ(record.pod().health_port(), 15020);
  EXPECT_TRUE(record.process_namespace_shared());
}

TEST(InjectTest, OnlyOurPathsAreTouched) {
  Json pod = simple_pod();
  pod["spec"]["containers"][0]["novelty"] = {{"deep", {1, 2}}};
  pod["spec"]["dnsConfig"] = {{"options", Json::array({{{"name", "ndots"}}})}};
  pod["spec"]["terminationGracePeriodSeconds"] = 77;
  pod["unknown"] = "kept";
  const Injected injected = inject(pod);
  for (const Json& operation : Json::parse(injected.patch.json)) {
    EXPECT_THAT(
        operation["path"].get<std::string>(),
        testing::AnyOf("/metadata/annotations", "/metadata/annotations/remora.dev~1injected",
                       "/spec/volumes", "/spec/initContainers", "/spec/initContainers/0",
                       "/spec/shareProcessNamespace", "/spec/containers/0/env",
                       "/spec/containers/0/lifecycle", "/spec/containers/0/lifecycle/preStop"));
  }
  EXPECT_EQ(injected.agent()["novelty"], pod["spec"]["containers"][0]["novelty"]);
  EXPECT_EQ(injected.pod["spec"]["dnsConfig"], pod["spec"]["dnsConfig"]);
  EXPECT_EQ(injected.pod["spec"]["terminationGracePeriodSeconds"], 77);
  EXPECT_EQ(injected.pod["unknown"], "kept");
}

TEST(InjectTest, ItsOwnPreStopHookIsKept) {
  Json pod = simple_pod();
  pod["spec"]["containers"][0]["lifecycle"] = {
      {"preStop", {{"exec", {{"command", {"sleep", "5"}}}}}}};
  const Injected injected = inject(pod);
  EXPECT_EQ(injected.agent()["lifecycle"], pod["spec"]["containers"][0]["lifecycle"]);
  EXPECT_THAT(injected.all_notes(), HasSubstr("its own preStop hook is kept"));
  annotate(pod, "drain-hook", "false");
  pod["spec"]["containers"][0].erase("lifecycle");
  EXPECT_FALSE(inject(pod).agent().contains("lifecycle"));
}

TEST(InjectTest, ExplicitInterceptionNeedsNoRightsAndSetsProxies) {
  Json pod = simple_pod();
  annotate(pod, "interception", "explicit");
  pod["spec"]["containers"][0]["env"] =
      Json::array({{{"name", "HTTP_PROXY"}, {"value", "http://mine:1"}}});
  const Injected injected = inject(pod);
  EXPECT_EQ(injected.pod["spec"]["initContainers"].size(), 1u) << "no rules, no NET_ADMIN";
  EXPECT_EQ(env_of(injected.agent(), "HTTP_PROXY"), "http://mine:1") << "its own is kept";
  EXPECT_EQ(env_of(injected.agent(), "https_proxy"), "http://127.0.0.1:15002");
  EXPECT_EQ(env_of(injected.agent(), "NO_PROXY"), "localhost,127.0.0.1,::1");
  EXPECT_THAT(injected.all_warnings(), HasSubstr("targetPort remora-inbound (15006)"));
  annotate(pod, "proxy-env", "false");
  EXPECT_EQ(env_of(inject(pod).agent(), "https_proxy"), "");
}

Json two_agents() {
  Json pod = simple_pod();
  pod["spec"]["containers"][0]["ports"].push_back({{"containerPort", 15007}});
  pod["spec"]["containers"].push_back(
      {{"name", "tools"}, {"image", "tools:1"}, {"ports", {{{"containerPort", 9000}}}}});
  annotate(pod, "containers", "agent, tools");
  annotate(pod, "interception", "explicit");
  return pod;
}

TEST(InjectTest, ExplicitInterceptionGivesEachPortOfEachAgentAnEntrance) {
  const Injected injected = inject(two_agents());
  const config::Injected record = injected.record();
  ASSERT_EQ(record.agents_size(), 2);
  EXPECT_EQ(record.agents(0).ports(0).inbound_port(), 15006);
  EXPECT_EQ(record.agents(0).ports(1).inbound_port(), 15008) << "15007 is the agent's own";
  EXPECT_EQ(record.agents(1).ports(0).inbound_port(), 15009);
  EXPECT_EQ(injected.sidecar()["ports"],
            Json::parse(R"([{"name":"remora-health","containerPort":15020},
                            {"name":"remora-inbound","containerPort":15006},
                            {"name":"remora-15007","containerPort":15008},
                            {"name":"remora-9000","containerPort":15009}])"));
  EXPECT_THAT(injected.all_warnings(),
              HasSubstr("remora-inbound (15006) for port 8000 of agent, remora-15007 (15008) for "
                        "port 15007 of agent, remora-9000 (15009) for port 9000 of tools"));
  EXPECT_EQ(inject(injected.pod).patch.operations, 0u) << "the same once more";
}

TEST(InjectTest, EntrancesStayWhereTheyWereWhenOthersAddPorts) {
  Injected injected = inject(two_agents());
  injected.pod["spec"]["containers"][0]["ports"].push_back({{"containerPort", 8001}});
  const config::Injected record = inject(injected.pod).record();
  EXPECT_EQ(record.agents(1).ports(0).inbound_port(), 15009);
  EXPECT_EQ(record.agents(0).ports(2).inbound_port(), 15010);
}

TEST(InjectTest, TransparentInterceptionHasOneEntrance) {
  Json pod = two_agents();
  annotate(pod, "interception", "transparent");
  EXPECT_EQ(inject(pod).sidecar()["ports"].size(), 2u);
}

TEST(InjectTest, TransparentInterceptionPassesExclusionsOn) {
  Json pod = simple_pod();
  annotate(pod, "exclude-outbound-ports", "5432, 8000-8080");
  annotate(pod, "exclude-outbound-addresses", "169.254.169.254");
  annotate(pod, "exclude-uids", "1337");
  annotate(pod, "inbound-port", "16006");
  const Json intercept = inject(pod).container("initContainers", "remora-intercept");
  EXPECT_EQ(intercept["args"],
            Json::parse(R"(["intercept","--inbound-port=16006","--outbound-port=15001",
                            "--health-port=15020","--exclude-outbound-port=5432,8000-8080",
                            "--exclude-outbound-address=169.254.169.254","--exclude-uid=1337"])"));
  EXPECT_EQ(intercept["securityContext"]["capabilities"],
            Json::parse(R"({"drop":["ALL"],"add":["NET_ADMIN"]})"));
  EXPECT_EQ(intercept["securityContext"]["runAsUser"], 0);
}

TEST(InjectTest, PortsOfContainersThatAreNoAgentsAreNotCaptured) {
  Json pod = simple_pod();
  pod["spec"]["containers"].push_back(pod_of(R"(
name: metrics
ports: [{name: m, containerPort: 9100}, {containerPort: 53, protocol: UDP}]
readinessProbe: {tcpSocket: {port: 9101}}
livenessProbe: {httpGet: {port: m}}
)"));
  const Injected injected = inject(pod);
  EXPECT_THAT(injected.record().interception().exclude_inbound_ports(),
              ElementsAre("9100", "9101"));
  EXPECT_EQ(injected.agent("metrics"), pod["spec"]["containers"][1]) << "left alone";
  EXPECT_THAT(injected.all_notes(), HasSubstr("container metrics is no agent"));
}

TEST(InjectTest, TheDefaultContainerIsTheAgent) {
  Json pod = simple_pod();
  Json& containers = pod["spec"]["containers"];
  containers.insert(containers.begin(), pod_of("name: first"));
  EXPECT_EQ(inject(pod).record().agents(0).name(), "first");
  pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] = "agent";
  EXPECT_EQ(inject(pod).record().agents(0).name(), "agent");
}

TEST(InjectTest, AppPortsWinOverDeclaredOnes) {
  Json pod = simple_pod();
  annotate(pod, "app-port", "9000");
  const config::Injected one = inject(pod).record();
  ASSERT_EQ(one.agents(0).ports_size(), 2) << "the named one first, then what is declared";
  EXPECT_EQ(one.agents(0).ports(0).port(), 9000);
  annotate(pod, "app-ports", "8000/http2, 9000");
  pod["metadata"]["annotations"].erase("remora.dev/app-port");
  const config::Injected both = inject(pod).record();
  EXPECT_EQ(both.agents(0).ports(0).protocol(), "http2");
  EXPECT_EQ(both.agents(0).ports(0).name(), "http");
  EXPECT_EQ(both.agents(0).ports(1).port(), 9000);
}

TEST(InjectTest, ResourcesImageAndConfigMapComeFromAnnotations) {
  Json pod = simple_pod();
  annotate(pod, "image", "registry/remora:9");
  annotate(pod, "image-pull-policy", "Never");
  annotate(pod, "cpu-limit", "500m");
  annotate(pod, "config-map", "remora-settings");
  const Injected injected = inject(pod);
  EXPECT_EQ(injected.sidecar()["image"], "registry/remora:9");
  EXPECT_EQ(injected.sidecar()["imagePullPolicy"], "Never");
  EXPECT_EQ(injected.sidecar()["resources"],
            Json::parse(R"({"requests":{"cpu":"10m","memory":"32Mi"},
                            "limits":{"cpu":"500m","memory":"256Mi"}})"));
  EXPECT_EQ((*mount_of(injected.sidecar(), "/etc/remora/config"))["name"], "remora-config");
  EXPECT_EQ(injected.sidecar()["args"].back(), "--config=/etc/remora/config/remora.yaml");
  EXPECT_EQ((*find_named(&injected.pod["spec"]["volumes"], "name", "remora-config"))["configMap"],
            Json::parse(R"({"name":"remora-settings"})"));
}

TEST(InjectTest, WhatTheFileOfAConfigMapMayMendIsNotRefused) {
  Json pod = simple_pod();
  annotate(pod, "snapshot-interval", "10s");
  EXPECT_THAT(problems_of(pod), ElementsAre(HasSubstr("has no effect without agent.stateDir")));
  annotate(pod, "config-map", "settings");
  EXPECT_THAT(problems_of(pod), IsEmpty());
  annotate(pod, "snapshot-interval", "10");
  EXPECT_THAT(problems_of(pod), ElementsAre(HasSubstr("\"10\" has no unit")));
}

TEST(InjectTest, EveryProblemIsNamedAtOnce) {
  Json pod = simple_pod();
  annotate(pod, "containers", "agnt");
  annotate(pod, "hang-windw", "5s");
  annotate(pod, "log-level", "loud");
  annotate(pod, "memory-limit", "lots");
  EXPECT_THAT(problems_of(pod),
              testing::UnorderedElementsAre(
                  HasSubstr("remora.dev/containers: \"agnt\" is no container of this pod; did you "
                            "mean agent?"),
                  HasSubstr("remora.dev/hang-windw: unknown annotation; did you mean "
                            "remora.dev/hang-window?"),
                  HasSubstr("remora.dev/memory-limit: \"lots\" is not a quantity")));
  pod["metadata"]["annotations"].erase("remora.dev/containers");
  EXPECT_THAT(problems_of(pod), testing::Contains(HasSubstr("remora.dev/log-level")));
}

TEST(InjectTest, PortsThatRemoraNeedsMustBeFree) {
  Json pod = simple_pod();
  pod["spec"]["containers"][0]["ports"].push_back({{"containerPort", 15020}});
  EXPECT_THAT(problems_of(pod),
              ElementsAre(HasSubstr("container agent: its port 15020 is also Remora's health port; "
                                    "set remora.dev/health-port to a free port")));
}

TEST(InjectTest, ANameOfOursInTheContainersIsRefused) {
  Json pod = simple_pod();
  pod["spec"]["containers"].push_back({{"name", "remora"}});
  EXPECT_THAT(problems_of(pod), ElementsAre(HasSubstr("container remora: its name")));
}

TEST(RestartRulesTest, AHealedAgentOfAPodThatNeverRestartsIsStartedAgainWhereTheClusterHasThem) {
  const auto rules_of = [](const Injected& injected) {
    const Json& container = injected.pod["spec"]["containers"][0];
    return container.contains("restartPolicyRules") ? container["restartPolicyRules"].dump() : "";
  };
  const std::string rule = R"([{"action":"Restart","exitCodes":{"operator":"In","values":[144]}}])";
  Json pod = simple_pod();
  InjectOptions options = test_options();
  options.kubernetes_version = "v1.35.0";
  EXPECT_EQ(rules_of(inject(pod, options)), "") << "the kubelet starts it again anyway";
  pod["spec"]["restartPolicy"] = "Never";
  const Injected injected = inject(pod, options);
  EXPECT_EQ(rules_of(injected), rule);
  EXPECT_EQ(injected.pod["spec"]["containers"][0]["restartPolicy"], "Never");
  EXPECT_EQ(injected.record().agents(0).restart_policy(), "");
  EXPECT_THAT(injected.all_warnings(), Not(HasSubstr("restartPolicy")));
  EXPECT_EQ(inject(injected.pod, options).patch.json, "[]");
  for (const std::string version : {"v1.34.4", ""}) {
    options.kubernetes_version = version;
    Json older = pod;
    EXPECT_EQ(rules_of(inject(older, options)), "") << version;
    EXPECT_EQ(inject(injected.pod, options).patch.json, "[]") << "a webhook that doesn't know";
    annotate(older, "restart-rules", "on");
    EXPECT_EQ(rules_of(inject(older, options)), rule) << version;
  }
  options.kubernetes_version = "v1.36.1";
  annotate(pod, "restart-rules", "off");
  EXPECT_EQ(rules_of(inject(pod, options)), "");
}

TEST(RestartRulesTest, AContainersOwnPolicyIsKeptAndTold) {
  Json pod = simple_pod();
  InjectOptions options = test_options();
  options.kubernetes_version = "v1.35.0";
  pod["spec"]["restartPolicy"] = "Never";
  pod["spec"]["containers"][0]["restartPolicy"] = "OnFailure";
  const Injected injected = inject(pod, options);
  EXPECT_FALSE(injected.pod["spec"]["containers"][0].contains("restartPolicyRules"));
  EXPECT_EQ(injected.record().restart_policy(), "Never");
  EXPECT_EQ(injected.record().agents(0).restart_policy(), "OnFailure");
}

TEST(InjectTest, LossesAreSaid) {
  Json pod = simple_pod();
  pod["spec"]["restartPolicy"] = "Never";
  pod["spec"]["terminationGracePeriodSeconds"] = 10;
  const std::string warnings = inject(pod).all_warnings();
  EXPECT_THAT(warnings, HasSubstr("container agent: restartPolicy is Never"));
  EXPECT_THAT(warnings, HasSubstr("drain-timeout is 25s, but the pod is killed after 10s"));
  EXPECT_THAT(warnings, HasSubstr("remora.dev/snapshot-claim keeps them"));
  EXPECT_THAT(warnings, Not(HasSubstr("Guaranteed")));
  pod["spec"]["containers"][0]["resources"] = {{"limits", {{"cpu", "1"}, {"memory", "1Gi"}}}};
  EXPECT_THAT(inject(pod).all_warnings(), HasSubstr("no longer Guaranteed"));
}

TEST(InjectTest, TheProcessNamespaceStaysApartForThoseWhoSaySo) {
  Json pod = simple_pod();
  annotate(pod, "share-process-namespace", "false");
  const Injected by_annotation = inject(pod);
  EXPECT_FALSE(by_annotation.pod["spec"].contains("shareProcessNamespace"));
  EXPECT_FALSE(by_annotation.record().process_namespace_shared());
  EXPECT_THAT(by_annotation.all_warnings(), HasSubstr("Lost: hangs and deadlocks"));
  Json other = simple_pod();
  other["spec"]["shareProcessNamespace"] = false;
  const Injected by_pod = inject(other);
  EXPECT_EQ(by_pod.pod["spec"]["shareProcessNamespace"], false);
  EXPECT_FALSE(by_pod.record().process_namespace_shared());
}

TEST(InjectShapeTest, PodsOfTheWrongShapeAreRefusedNotCrashedOn) {
  for (const std::string text :
       {"null", "[]", "1", "{}", R"({"spec":null})", R"({"spec":[]})", R"({"spec":{}})",
        R"({"spec":{"containers":{}}})", R"({"spec":{"containers":[]}})",
        R"({"spec":{"containers":[1]}})", R"({"spec":{"containers":[{}]}})",
        R"({"spec":{"containers":[{"name":"a"},{"name":"a"}]}})",
        R"({"spec":{"containers":[{"name":"a","env":{}}]}})",
        R"({"spec":{"containers":[{"name":"a","livenessProbe":[]}]}})",
        R"({"spec":{"containers":[{"name":"a"}],"volumes":1}})",
        R"({"metadata":{"annotations":{"a":1}},"spec":{"containers":[{"name":"a"}]}})"}) {
    EXPECT_THAT(problems_of(Json::parse(text)), Not(IsEmpty())) << text;
  }
  Json deep = Json::object();
  for (int i = 0; i < 200; ++i) deep = {{"a", deep}};
  Json pod = simple_pod();
  pod["deep"] = deep;
  EXPECT_THAT(problems_of(pod), ElementsAre(HasSubstr("nested more than 64 deep")));
}

TEST(InjectShapeTest, EmptyKeysAreLikeAbsentOnes) {
  Json pod = simple_pod();
  pod["metadata"]["annotations"] = nullptr;
  pod["spec"]["initContainers"] = nullptr;
  pod["spec"]["volumes"] = nullptr;
  pod["spec"]["containers"][0]["env"] = nullptr;
  const Injected injected = inject(pod);
  EXPECT_EQ(env_of(injected.agent(), "REMORA_AGENT"), "agent");
  EXPECT_EQ(injected.pod["spec"]["initContainers"].size(), 2u);
}

}  // namespace
}  // namespace remora::k8s
