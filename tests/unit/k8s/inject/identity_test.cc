// As whom the sidecar runs, and what is said when it can't look into the agent.
#include <algorithm>

#include <gmock/gmock.h>

#include "tests/unit/k8s/inject/inject_fixture.h"

namespace remora::k8s {
namespace {

using testing::HasSubstr;
using testing::Not;

Json pod_with(const std::string& pod_context, const std::string& container_context) {
  Json pod = simple_pod();
  pod["spec"]["securityContext"] = Json::parse(pod_context);
  pod["spec"]["containers"][0]["securityContext"] = Json::parse(container_context);
  return pod;
}

TEST(IdentityTest, TheAgentsUserWinsOverThePods) {
  const Injected injected =
      inject(pod_with(R"({"runAsUser": 1, "runAsGroup": 2})", R"({"runAsUser": 1001})"));
  EXPECT_EQ(injected.sidecar()["securityContext"]["runAsUser"], 1001);
  EXPECT_EQ(injected.sidecar()["securityContext"]["runAsGroup"], 2);
  EXPECT_THAT(injected.all_warnings(), Not(HasSubstr("can't look into")));
}

TEST(IdentityTest, AnUnknownUserIsSaidWithWhatIsLost) {
  const Injected injected = inject(pod_with("{}", "{}"));
  EXPECT_FALSE(injected.sidecar()["securityContext"].contains("runAsUser"));
  EXPECT_EQ(injected.sidecar()["securityContext"]["runAsNonRoot"], true);
  EXPECT_THAT(injected.all_warnings(), HasSubstr("the user of container agent is unknown"));
  EXPECT_THAT(injected.all_warnings(), HasSubstr("can't look into its processes"));
}

TEST(IdentityTest, AnUnknownGroupIsSaid) {
  EXPECT_THAT(inject(pod_with(R"({"runAsUser": 1000})", "{}")).all_warnings(),
              HasSubstr("the group of container agent is unknown"));
}

TEST(IdentityTest, ARootAgentNeedsARootSidecarWithItsCapabilities) {
  const Injected plain = inject(pod_with("{}", R"({"runAsUser": 0, "runAsGroup": 0})"));
  const Json& context = plain.sidecar()["securityContext"];
  EXPECT_EQ(context["runAsNonRoot"], false);
  EXPECT_EQ(context["runAsUser"], 0);
  EXPECT_FALSE(context.contains("capabilities")) << "the runtime's default ones, as the agent";
  EXPECT_THAT(plain.all_warnings(), HasSubstr("the agent runs as root, so Remora does too"));
  const Injected dropped = inject(pod_with(
      "{}", R"({"runAsUser": 0, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}})"));
  EXPECT_EQ(dropped.sidecar()["securityContext"]["capabilities"],
            Json::parse(R"({"drop":["ALL"],"add":["NET_BIND_SERVICE"]})"));
}

TEST(IdentityTest, AgentsOfDifferentUsersAreNamed) {
  Json pod = simple_pod();
  pod["spec"]["containers"].push_back(
      {{"name", "tools"}, {"securityContext", {{"runAsUser", 2000}}}});
  annotate(pod, "containers", "agent, tools");
  EXPECT_THAT(inject(pod).all_warnings(),
              HasSubstr("container tools runs as user 2000, Remora as user 1000"));
}

TEST(IdentityTest, AnnotationsChooseAnotherUser) {
  Json pod = simple_pod();
  annotate(pod, "run-as-user", "65532");
  annotate(pod, "run-as-group", "65532");
  const Injected injected = inject(pod);
  EXPECT_EQ(injected.sidecar()["securityContext"]["runAsUser"], 65532);
  EXPECT_THAT(injected.all_warnings(), HasSubstr("Remora as user 65532"));
}

TEST(IdentityTest, APrivilegedAgentIsOutOfReach) {
  EXPECT_THAT(inject(pod_with("{}", R"({"runAsUser": 0, "privileged": true})")).all_warnings(),
              HasSubstr("container agent is privileged, and Remora is not"));
}

// The rules tell the sidecar's connections by its user where that is possible.
bool is_told_by_user(const Json& pod) {
  const Json arguments = inject(pod).container("initContainers", "remora-intercept")["args"];
  return std::ranges::find(arguments, "--sidecar-uid=65532") != arguments.end();
}

TEST(IdentityTest, RulesTellTheSidecarByAUserThatNobodyElseHas) {
  Json pod = simple_pod();
  EXPECT_FALSE(is_told_by_user(pod)) << "it shares the agent's";
  annotate(pod, "run-as-user", "65532");
  EXPECT_TRUE(is_told_by_user(pod));
  const Injected injected = inject(pod);
  EXPECT_EQ(injected.record().sidecar_uid(), 65532);
  EXPECT_EQ(inject(injected.pod).patch.operations, 0u) << "the same once more";
}

TEST(IdentityTest, RulesDontTrustAUserThatAnotherContainerHasOrMayBecome) {
  for (const Json& other : {Json(65532), Json(0), Json(nullptr)}) {
    Json pod = simple_pod();
    annotate(pod, "run-as-user", "65532");
    pod["spec"].erase("securityContext");
    pod["spec"]["containers"][0]["securityContext"] = {{"runAsUser", 1000}};
    EXPECT_TRUE(is_told_by_user(pod));
    Json second = {{"name", "second"}, {"image", "second:1"}};
    if (!other.is_null()) second["securityContext"] = {{"runAsUser", other}};
    pod["spec"]["containers"].push_back(second);
    EXPECT_FALSE(is_told_by_user(pod)) << other;
  }
}

}  // namespace
}  // namespace remora::k8s
