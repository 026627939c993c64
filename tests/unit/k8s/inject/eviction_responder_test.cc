// The operator's name among a pod's responders of the Eviction API.
#include <gmock/gmock.h>

#include "tests/unit/k8s/inject/inject_fixture.h"

namespace remora::k8s {
namespace {

InjectOptions as_responder() {
  InjectOptions options = test_options();
  options.link = {.address = "operator:9444", .trusted_pem = "pem"};
  options.eviction_responder = {.name = "remora.dev/snapshot", .priority = 20'000};
  return options;
}

const Json ours = {{"name", "remora.dev/snapshot"}, {"priority", 20'000}};

TEST(ResponderNameTest, StandsBesideThoseThatThePodHas) {
  EXPECT_EQ(inject(simple_pod(), as_responder()).pod["spec"]["evictionResponders"],
            Json::array({ours}));
  Json pod = simple_pod();
  const Json other = {{"name", "acme.io/mover"}, {"priority", 10'000}};
  pod["spec"]["evictionResponders"] = Json::array({other});
  const Injected made = inject(pod, as_responder());
  EXPECT_EQ(made.pod["spec"]["evictionResponders"], Json::array({other, ours}));
  EXPECT_EQ(inject(made.pod, as_responder()).patch.json, "[]");
}

TEST(ResponderNameTest, IsLeftOutWhereNobodyWouldAnswer) {
  EXPECT_FALSE(inject(simple_pod(), test_options()).pod["spec"].contains("evictionResponders"));
  InjectOptions unlinked = as_responder();
  unlinked.link = {};
  EXPECT_FALSE(inject(simple_pod(), unlinked).pod["spec"].contains("evictionResponders"));
  // The API refuses them together.
  Json grouped = simple_pod();
  grouped["spec"]["schedulingGroup"] = {{"podGroupName", "g"}};
  EXPECT_FALSE(inject(grouped, as_responder()).pod["spec"].contains("evictionResponders"));
}

}  // namespace
}  // namespace remora::k8s
