// What is known of namespaces, and asking for those that are new.
#include "k8s/webhook/namespaces.h"

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/k8s/api/fake_api.h"

namespace remora::k8s {
namespace {

using nlohmann::ordered_json;
using testing::ElementsAre;
using namespace std::chrono_literals;

ordered_json object(const std::string& name, const std::string& level,
                    const std::string& inject = {}) {
  ordered_json labels = {{"pod-security.kubernetes.io/enforce", level}};
  if (!inject.empty()) labels["remora.dev/inject"] = inject;
  return {{"metadata", {{"name", name}, {"labels", labels}}}};
}

class NamespacesTest : public testing::Test {
 protected:
  void start() {
    client_ = std::move(*ApiClient::create(runner_.loop(), api_.server()));
    namespaces_.emplace(runner_.loop(), *client_, failures_);
    bool loaded = false;
    namespaces_->start([&] { loaded = true; });
    ASSERT_TRUE(runner_.run_until([&] { return loaded; }));
  }
  std::string answer(const std::string& request) {
    if (request.starts_with("GET /api/v1/namespaces?")) {
      const ordered_json items = {object("team", "baseline", "enabled"),
                                  object("other", "privileged", "true")};
      return FakeApi::json(
          200, ordered_json{{"metadata", ordered_json::object()}, {"items", items}}.dump());
    }
    if (request.starts_with("GET /api/v1/namespaces/new ")) {
      return FakeApi::json(200, object("new", "restricted").dump());
    }
    if (request.starts_with("GET /api/v1/namespaces/silent ")) return {};
    return FakeApi::json(404, R"({"message":"not found"})");
  }

  LoopRunner runner_;
  Counter failures_;
  FakeApi api_{runner_.loop(), [this](const std::string& request) { return answer(request); }};
  std::unique_ptr<ApiClient> client_;
  std::optional<Namespaces> namespaces_;
};

TEST(NamespaceTraitsTest, LabelsOfAnyShapeAreRead) {
  EXPECT_EQ(traits_of(object("a", "restricted")).pod_security, PodSecurity::kRestricted);
  EXPECT_EQ(traits_of(object("a", "baseline")).pod_security, PodSecurity::kBaseline);
  EXPECT_EQ(traits_of(object("a", "unheard-of")).pod_security, PodSecurity::kPrivileged);
  EXPECT_TRUE(traits_of(object("a", "", "enabled")).inject);
  EXPECT_FALSE(traits_of(object("a", "", "true")).inject);
  for (const char* strange :
       {"null", "7", "{}", R"({"metadata":7})", R"({"metadata":{"labels":["a"]}})",
        R"({"metadata":{"labels":{"remora.dev/inject":7}}})"}) {
    EXPECT_FALSE(traits_of(ordered_json::parse(strange)).inject) << strange;
  }
}

TEST_F(NamespacesTest, AllAreReadAtTheStart) {
  start();
  ASSERT_NE(namespaces_->find("team"), nullptr);
  EXPECT_EQ(namespaces_->find("team")->pod_security, PodSecurity::kBaseline);
  EXPECT_EQ(namespaces_->find("new"), nullptr);
  EXPECT_THAT(namespaces_->enabled(), ElementsAre("team"));
  bool known_at_once = false;
  namespaces_->look_up("team", [&](const NamespaceTraits& traits) {
    known_at_once = traits.pod_security == PodSecurity::kBaseline;
  });
  EXPECT_TRUE(known_at_once);
}

TEST_F(NamespacesTest, ANewOneIsAskedForOnceForAllWhoWait) {
  start();
  int restricted = 0;
  for (int i = 0; i < 5; ++i) {
    namespaces_->look_up("new", [&](const NamespaceTraits& traits) {
      restricted += traits.pod_security == PodSecurity::kRestricted ? 1 : 0;
    });
  }
  EXPECT_EQ(restricted, 0);
  ASSERT_TRUE(runner_.run_until([&] { return restricted == 5; }));
  EXPECT_EQ(api_.requests().size(), 2u);
  EXPECT_NE(namespaces_->find("new"), nullptr);
}

TEST_F(NamespacesTest, WhatCannotBeKnownHasTheDefaults) {
  start();
  std::vector<std::string> answered;
  for (const std::string name : {"gone", "silent", "../secrets", "a?b", "", "UPPER"}) {
    namespaces_->look_up(name, [&, name](const NamespaceTraits& traits) {
      EXPECT_EQ(traits.pod_security, PodSecurity::kPrivileged);
      answered.push_back(name);
    });
  }
  // Names that are none go nowhere.
  EXPECT_THAT(answered, ElementsAre("../secrets", "a?b", "", "UPPER"));
  ASSERT_TRUE(runner_.run_until([&] { return answered.size() == 6; }));
  EXPECT_EQ(answered.back(), "silent");
  EXPECT_EQ(failures_.value(), 1u);
  EXPECT_EQ(namespaces_->find("gone"), nullptr);
}

TEST_F(NamespacesTest, MoreThanAFewAtOnceAreNotAskedFor) {
  start();
  size_t answered = 0;
  for (size_t i = 0; i < namespace_lookups_max + 3; ++i) {
    namespaces_->look_up("silent", [](const NamespaceTraits&) {});
    namespaces_->look_up("n" + std::to_string(i), [&](const NamespaceTraits&) { ++answered; });
  }
  EXPECT_EQ(answered, 4u) << "beyond the limit they are answered at once";
  ASSERT_TRUE(runner_.run_until([&] { return answered == namespace_lookups_max + 3; }));
}

}  // namespace
}  // namespace remora::k8s
