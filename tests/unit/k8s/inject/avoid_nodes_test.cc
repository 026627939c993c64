// Nodes that a new pod rather keeps away from.
#include "k8s/inject/avoid_nodes.h"

#include <gmock/gmock.h>

#include "tests/unit/k8s/inject/inject_fixture.h"

namespace remora::k8s {
namespace {

using testing::HasSubstr;

constexpr const char* preferred =
    "/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution";

InjectOptions avoiding(const std::string& workload, const std::string& node = "n2") {
  InjectOptions options = test_options();
  options.avoided.push_back({.node = node,
                             .workload = workload,
                             .until = "2026-01-01T00:10:00Z",
                             .incident = "agent-x-1"});
  return options;
}

Json owned(const std::string& kind, const std::string& name) {
  Json pod = simple_pod();
  pod["metadata"]["ownerReferences"] =
      Json::array({{{"kind", kind}, {"name", name}, {"uid", "u"}, {"controller", true}}});
  return pod;
}

TEST(AvoidNodesTest, APodOfTheWorkloadPrefersOtherNodesAndSaysWhy) {
  const Injected made = inject(owned("ReplicaSet", "agent-7c9d8f"), avoiding("Deployment/agent"));
  const Json& terms = made.pod.at(Json::json_pointer(preferred));
  ASSERT_EQ(terms.size(), 1U);
  EXPECT_EQ(terms[0]["weight"], 100);
  EXPECT_EQ(terms[0]["preference"]["matchFields"][0],
            Json::parse(R"({"key":"metadata.name","operator":"NotIn","values":["n2"]})"));
  EXPECT_EQ(made.pod["metadata"]["annotations"]["remora.dev/avoids-nodes"],
            "n2 until 2026-01-01T00:10:00Z (Incident agent-x-1)");
  EXPECT_THAT(made.all_notes(), HasSubstr("keeps away from node n2"));
}

TEST(AvoidNodesTest, ThePodsOwnAffinityIsKept) {
  Json pod = owned("StatefulSet", "agent");
  pod["spec"]["affinity"] = Json::parse(R"({
      "podAntiAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[]},
      "nodeAffinity":{
        "requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[]}]},
        "preferredDuringSchedulingIgnoredDuringExecution":[{"weight":1,"preference":{}}]}})");
  InjectOptions options = avoiding("StatefulSet/agent");
  options.avoided.push_back(options.avoided[0]);
  options.avoided.back().node = "n3";
  const Injected made = inject(pod, options);
  const Json& terms = made.pod.at(Json::json_pointer(preferred));
  ASSERT_EQ(terms.size(), 3U);
  EXPECT_EQ(terms[0]["weight"], 1);
  EXPECT_EQ(terms[2]["preference"]["matchFields"][0]["values"][0], "n3");
  EXPECT_TRUE(made.pod["spec"]["affinity"].contains("podAntiAffinity"));
  EXPECT_EQ(
      made.pod["spec"]["affinity"]["nodeAffinity"]
              ["requiredDuringSchedulingIgnoredDuringExecution"],
      pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]);
}

TEST(AvoidNodesTest, OtherPodsGoWhereTheyLike) {
  for (const Json& pod : {simple_pod(), owned("ReplicaSet", "other-7c9d8f"),
                          owned("ReplicaSet", "agent"), owned("DaemonSet", "agent")}) {
    const Injected made = inject(pod, avoiding("Deployment/agent"));
    EXPECT_FALSE(made.pod["spec"].contains("affinity")) << pod["metadata"].dump();
    EXPECT_FALSE(made.pod["metadata"]["annotations"].contains("remora.dev/avoids-nodes"));
  }
  EXPECT_FALSE(inject(owned("DaemonSet", "agent"), avoiding("DaemonSet/agent"))
                   .pod["spec"]
                   .contains("affinity"));
}

TEST(AvoidNodesTest, IsDoneOnceForAPod) {
  const Json pod = owned("ReplicaSet", "agent-7c9d8f");
  const Injected first = inject(pod, avoiding("Deployment/agent"));
  EXPECT_EQ(inject(first.pod, avoiding("Deployment/agent", "n3")).patch.json, "[]");
}

TEST(WorkloadOfOwnerTest, AReplicaSetsDeploymentByItsName) {
  EXPECT_EQ(workload_of_owner("ReplicaSet/agent-7c9d8f"), "Deployment/agent");
  EXPECT_EQ(workload_of_owner("ReplicaSet/my-agent-5f4d8bcb9c"), "Deployment/my-agent");
  EXPECT_EQ(workload_of_owner("ReplicaSet/my-cache"), "ReplicaSet/my-cache");
  EXPECT_EQ(workload_of_owner("ReplicaSet/agent"), "ReplicaSet/agent");
  EXPECT_EQ(workload_of_owner("ReplicaSet/-7c9d8f"), "ReplicaSet/-7c9d8f");
  EXPECT_EQ(workload_of_owner("StatefulSet/agent-7c9d8f"), "StatefulSet/agent-7c9d8f");
  EXPECT_EQ(workload_of_owner(""), "");
}

}  // namespace
}  // namespace remora::k8s
