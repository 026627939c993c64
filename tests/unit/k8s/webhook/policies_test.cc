// Which policy's settings a pod gets.
#include "k8s/webhook/policies.h"

#include <nlohmann/json.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace remora::k8s {
namespace {

using nlohmann::ordered_json;
using testing::HasSubstr;
using testing::IsEmpty;

ordered_json policy(const char* spec) {
  return {{"metadata", {{"name", "agents"}, {"namespace", "team"}, {"generation", 3}}},
          {"spec", ordered_json::parse(spec)}};
}

TEST(PodPolicyTest, ItsSettingsAndTheirVersion) {
  const auto made = pod_policy_of(policy(R"({"selector": {"matchLabels": {"app": "agent"}},
                                             "sidecar": {"detection": {"hangWindow": "45s"}}})"));
  ASSERT_TRUE(made.has_value());
  ASSERT_NE(made->defaults, nullptr);
  EXPECT_EQ(made->defaults->name, "agents");
  EXPECT_EQ(made->defaults->generation, 3);
  EXPECT_EQ(made->defaults->settings.at("remora.dev/hang-window"), "45s");
  EXPECT_THAT(made->defaults->trouble, IsEmpty());
}

TEST(PodPolicyTest, WithoutSettingsItStillSelects) {
  const auto made = pod_policy_of(policy(R"({"selector": {"matchLabels": {"app": "agent"}}})"));
  ASSERT_TRUE(made.has_value());
  EXPECT_EQ(made->defaults, nullptr);
  EXPECT_EQ(made->selector.match_labels().at("app"), "agent");
}

TEST(PodPolicyTest, AWrongSettingIsNamed) {
  const auto made = pod_policy_of(policy(R"({"selector": {"matchLabels": {"app": "agent"}},
                                             "sidecar": {"detection": {"hangWindow": "soon"}}})"));
  ASSERT_TRUE(made.has_value());
  ASSERT_NE(made->defaults, nullptr);
  EXPECT_THAT(made->defaults->trouble, HasSubstr("spec.sidecar.detection.hangWindow"));
}

TEST(PodPolicyTest, TheNodesThatItsPodsKeepAwayFrom) {
  ordered_json object = policy(R"({"selector": {"matchLabels": {"app": "agent"}}})");
  EXPECT_THAT(pod_policy_of(object)->avoided, IsEmpty());
  object["status"] = ordered_json::parse(R"({"pods": 3, "avoidedNodes": [
      {"node": "n2", "workload": "Deployment/agent", "until": "2026-01-01T00:10:00Z",
       "incident": "agent-1"}]})");
  const auto made = pod_policy_of(object);
  ASSERT_EQ(made->avoided.size(), 1U);
  EXPECT_EQ(made->avoided[0].node, "n2");
  EXPECT_EQ(made->avoided[0].workload, "Deployment/agent");
  EXPECT_EQ(made->avoided[0].until, "2026-01-01T00:10:00Z");
  EXPECT_EQ(made->avoided[0].incident, "agent-1");
  object["status"] = "nonsense";
  EXPECT_THAT(pod_policy_of(object)->avoided, IsEmpty());
}

TEST(PodPolicyTest, OneThatCannotBeReadIsNone) {
  EXPECT_FALSE(pod_policy_of(policy("{}")).has_value());
  EXPECT_FALSE(pod_policy_of(ordered_json::object()).has_value());
}

}  // namespace
}  // namespace remora::k8s
