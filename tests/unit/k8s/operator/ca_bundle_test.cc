// Reading and writing the caBundle of every webhook, and who is believed since when.
#include "k8s/operator/ca_bundle.h"

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "k8s/api/base64.h"
#include "sidecar/net/certificates.h"

namespace remora::k8s {
namespace {

using nlohmann::ordered_json;
using testing::ElementsAre;
using testing::UnorderedElementsAre;
using namespace std::chrono_literals;

std::string authority(const char* name) {
  return make_authority(name, {0, 4'000'000'000})->certificate_pem;
}

class CaBundleTest : public testing::Test {
 protected:
  ordered_json config(const std::vector<std::string>& bundles) {
    ordered_json config = {{"kind", "MutatingWebhookConfiguration"},
                           {"metadata", {{"resourceVersion", "7"}}}};
    config["webhooks"] = ordered_json::array();
    for (const std::string& bundle : bundles) {
      ordered_json webhook = {{"clientConfig", {{"service", {{"name", "remora"}}}}}};
      if (!bundle.empty()) webhook["clientConfig"]["caBundle"] = base64_encode(bundle);
      config["webhooks"].push_back(webhook);
    }
    return config;
  }
  BundleView view(const std::vector<std::string>& bundles) {
    return read_bundles(config(bundles).dump()).value();
  }

  const std::string ours_ = authority("ours");
  const std::string old_ = authority("old");
  const std::string foreign_ = authority("foreign");
};

TEST_F(CaBundleTest, TrustedIsWhatEveryWebhookHas) {
  const BundleView seen = view({ours_ + old_, old_ + foreign_});
  EXPECT_EQ(seen.webhooks, 2u);
  EXPECT_THAT(seen.trusted, ElementsAre(old_));
  EXPECT_THAT(seen.present, UnorderedElementsAre(ours_, old_, foreign_));
  EXPECT_FALSE(trusts_all(seen, std::vector{ours_, old_}));
  EXPECT_TRUE(trusts_all(seen, std::vector{old_}));
  EXPECT_TRUE(has_strangers(seen, std::vector{ours_, old_}));
  EXPECT_FALSE(has_strangers(seen, std::vector{ours_, old_, foreign_}));
}

TEST_F(CaBundleTest, WipedOrForeignIsNotTrusted) {
  EXPECT_FALSE(trusts_all(view({ours_, ""}), std::vector{ours_}));
  EXPECT_FALSE(trusts_all(view({foreign_, foreign_}), std::vector{ours_}));
  EXPECT_FALSE(trusts_all(view({"Cg=="}), std::vector{ours_}));
  ordered_json strange = config({ours_});
  strange["webhooks"].push_back("text");
  EXPECT_FALSE(trusts_all(read_bundles(strange.dump()).value(), std::vector{ours_}));
}

TEST_F(CaBundleTest, ThePatchPutsItIntoEachAndOnlyIntoWhatWasRead) {
  ordered_json before = config({"", foreign_});
  const BundleView seen = read_bundles(before.dump()).value();
  const auto patch = ordered_json::parse(bundle_patch(seen, std::vector{ours_, old_}));
  const ordered_json after = before.patch(patch);
  const BundleView then = read_bundles(after.dump()).value();
  EXPECT_THAT(then.trusted, ElementsAre(ours_, old_));
  EXPECT_THAT(then.present, ElementsAre(ours_, old_));
  EXPECT_EQ(after["webhooks"][1]["clientConfig"]["service"]["name"], "remora");
  before["metadata"]["resourceVersion"] = "8";
  EXPECT_THROW(before.patch(patch), ordered_json::exception);
}

TEST_F(CaBundleTest, WhatIsNoConfigurationIsAnError) {
  for (const char* bad : {"", "[]", "{}", R"({"kind":"Secret","metadata":{}})",
                          R"({"kind":"MutatingWebhookConfiguration"})"}) {
    EXPECT_EQ(read_bundles(bad).error().code, ErrorCode::kProtocol) << bad;
  }
  const auto empty = read_bundles(R"({"kind":"MutatingWebhookConfiguration","metadata":{}})");
  EXPECT_EQ(empty->webhooks, 0u);
}

TEST_F(CaBundleTest, TrustCountsFromWhenItBeganAndEndsAtOnce) {
  TrustTimes times;
  const MonotonicTime start{100s};
  times.update(view({ours_}), start);
  EXPECT_FALSE(times.trusted_for(ours_, 5s, start + 4s));
  times.update(view({ours_ + old_}), start + 4s);
  EXPECT_TRUE(times.trusted_for(ours_, 5s, start + 5s));
  EXPECT_FALSE(times.trusted_for(old_, 5s, start + 5s));
  EXPECT_FALSE(times.trusted_for(foreign_, 0s, start + 5s));
  times.update(view({""}), start + 6s);
  EXPECT_FALSE(times.trusted_for(ours_, 0s, start + 6s));
  times.update(view({ours_}), start + 7s);
  EXPECT_FALSE(times.trusted_for(ours_, 5s, start + 8s));
}

}  // namespace
}  // namespace remora::k8s
