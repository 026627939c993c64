// One review in, one review out: what is allowed, patched, refused, and what is no review at all.
#include "k8s/webhook/admission.h"

#include <nlohmann/json.hpp>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "k8s/api/base64.h"
#include "k8s/inject/inject.h"

namespace remora::k8s {
namespace {

using nlohmann::ordered_json;
using testing::HasSubstr;
using testing::StartsWith;

InjectOptions options() {
  InjectOptions options;
  options.image = "remora:test";
  options.product_version = "9.9.9";
  options.namespace_name = "team";
  options.kubernetes_version = "v1.34.4";
  return options;
}

ordered_json asking_pod() {
  return ordered_json::parse(R"({
    "apiVersion": "v1", "kind": "Pod",
    "metadata": {"generateName": "agent-", "labels": {"remora.dev/inject": "true"}},
    "spec": {"securityContext": {"runAsUser": 1000, "runAsGroup": 1000},
             "containers": [{"name": "agent", "image": "agent:1",
                             "ports": [{"containerPort": 8000}]}]}})");
}

ordered_json review_of(ordered_json pod) {
  ordered_json review = ordered_json::parse(R"({
    "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
    "request": {"uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "namespace": "team", "operation": "CREATE"}})");
  review["request"]["object"] = std::move(pod);
  return review;
}

struct Answer {
  AdmissionOutcome outcome;
  ordered_json response;
};
Answer answer(const ordered_json& pod, const InjectOptions& with = options()) {
  const auto review = AdmissionReview::parse(review_of(pod).dump());
  EXPECT_TRUE(review.has_value());
  Answer answer{review->answer(with), {}};
  const ordered_json document = ordered_json::parse(answer.outcome.review);
  EXPECT_EQ(document["apiVersion"], "admission.k8s.io/v1");
  EXPECT_EQ(document["kind"], "AdmissionReview");
  answer.response = document["response"];
  EXPECT_EQ(answer.response["uid"], "u-1");
  return answer;
}

TEST(AdmissionTest, APodThatAsksGetsAPatchThatMakesItWhole) {
  const Answer first = answer(asking_pod());
  EXPECT_EQ(first.outcome.result, "injected");
  EXPECT_EQ(first.outcome.pod, "team/agent-*");
  EXPECT_EQ(first.response["allowed"], true);
  EXPECT_EQ(first.response["patchType"], "JSONPatch");
  const auto patch =
      ordered_json::parse(base64_decode(first.response["patch"].get<std::string>()).value());
  const ordered_json injected = asking_pod().patch(patch);
  EXPECT_EQ(injected["spec"]["initContainers"].back()["name"], sidecar_container);
  // Asked again, as after another webhook's change (reinvocation), it has nothing to add.
  const Answer second = answer(injected);
  EXPECT_EQ(second.outcome.result, "unchanged");
  EXPECT_EQ(second.response["allowed"], true);
  EXPECT_FALSE(second.response.contains("patch"));
}

TEST(AdmissionTest, APodThatAsksForNothingIsLetThrough) {
  ordered_json pod = asking_pod();
  pod["metadata"].erase("labels");
  const Answer left = answer(pod);
  EXPECT_EQ(left.outcome.result, "skipped");
  EXPECT_EQ(left.response["allowed"], true);
  EXPECT_FALSE(left.response.contains("patch"));
  EXPECT_FALSE(left.response.contains("warnings"));
  InjectOptions by_namespace = options();
  by_namespace.inject_by_default = true;
  EXPECT_EQ(answer(pod, by_namespace).outcome.result, "injected");
}

TEST(AdmissionTest, APodThatAsksInVainIsLetThroughWithAWarning) {
  ordered_json pod = asking_pod();
  pod["spec"]["hostNetwork"] = true;
  const Answer left = answer(pod);
  EXPECT_EQ(left.outcome.result, "skipped");
  EXPECT_EQ(left.response["allowed"], true);
  ASSERT_EQ(left.response["warnings"].size(), 1u);
  EXPECT_THAT(left.response["warnings"][0].get<std::string>(), StartsWith("remora: "));
  EXPECT_THAT(left.response["warnings"][0].get<std::string>(), HasSubstr("hostNetwork"));
}

TEST(AdmissionTest, AWrongAnnotationIsRefusedByNameWithTheMend) {
  ordered_json pod = asking_pod();
  pod["metadata"]["annotations"] = {{"remora.dev/app-port", "eighty"}};
  const Answer refused = answer(pod);
  EXPECT_EQ(refused.outcome.result, "refused");
  EXPECT_EQ(refused.response["allowed"], false);
  EXPECT_EQ(refused.response["status"]["code"], 422);
  const auto message = refused.response["status"]["message"].get<std::string>();
  EXPECT_THAT(message, HasSubstr("remora.dev/app-port"));
  EXPECT_THAT(message, HasSubstr("; "));  // what to do about it
}

TEST(AdmissionTest, AnOldClusterIsRefusedClearly) {
  InjectOptions old = options();
  old.kubernetes_version = "v1.28.9";
  const Answer refused = answer(asking_pod(), old);
  EXPECT_EQ(refused.response["allowed"], false);
  EXPECT_THAT(refused.outcome.reason, HasSubstr("1.29"));
}

TEST(AdmissionTest, WhatIsNoReviewOfANewPodIsAnError) {
  const ordered_json good = review_of(asking_pod());
  ordered_json older = good;
  older["apiVersion"] = "admission.k8s.io/v1beta1";
  ordered_json nameless = good;
  nameless["request"].erase("uid");
  ordered_json other = good;
  other["request"]["kind"]["kind"] = "Node";
  ordered_json update = good;
  update["request"]["operation"] = "UPDATE";
  ordered_json objectless = good;
  objectless["request"]["object"] = nullptr;
  ordered_json listed = good;
  listed["request"] = ordered_json::array({1});
  for (const std::string& text :
       {older.dump(), nameless.dump(), other.dump(), update.dump(), objectless.dump(),
        listed.dump(), std::string(), std::string("[]"), std::string("null"),
        good.dump().substr(0, 300), std::string(1'000'000, '['), std::string("\xff\xfe{}")}) {
    const auto review = AdmissionReview::parse(text);
    ASSERT_FALSE(review.has_value()) << text.substr(0, 200);
    EXPECT_EQ(review.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(AdmissionTest, ADeepOrBloatedReviewIsNoReview) {
  ordered_json deep = asking_pod();
  std::string nested;
  for (int i = 0; i < 1000; ++i) nested += R"({"a":)";
  nested += "1" + std::string(1000, '}');
  deep["spec"]["strange"] = ordered_json::parse(nested);
  EXPECT_FALSE(AdmissionReview::parse(review_of(deep).dump()).has_value());
  ordered_json bloated = asking_pod();
  bloated["spec"]["strange"] = ordered_json(std::vector<int>(admission_values_max, 0));
  EXPECT_FALSE(AdmissionReview::parse(review_of(bloated).dump()).has_value());
}

TEST(AdmissionTest, FieldsOfAnyTypeAreNoCrash) {
  const ordered_json strange[] = {
      nullptr, true, 7, "text", ordered_json::array({1}), ordered_json::object({{"a", 1}})};
  for (const char* pointer :
       {"/metadata", "/metadata/labels", "/metadata/annotations", "/metadata/name", "/spec",
        "/spec/containers", "/spec/containers/0", "/spec/containers/0/name",
        "/spec/containers/0/ports", "/spec/containers/0/ports/0", "/spec/securityContext"}) {
    for (const ordered_json& value : strange) {
      ordered_json pod = asking_pod();
      pod[ordered_json::json_pointer(pointer)] = value;
      InjectOptions with = options();
      with.inject_by_default = true;
      EXPECT_TRUE(answer(pod, with).response["allowed"].is_boolean()) << pointer << value;
    }
  }
}

TEST(AdmissionTest, TextThatIsNoUtf8IsNoReview) {
  std::string text = review_of(asking_pod()).dump();
  text.replace(text.find("u-1"), 3, "\xff-1");
  EXPECT_FALSE(AdmissionReview::parse(text).has_value());
}

}  // namespace
}  // namespace remora::k8s
