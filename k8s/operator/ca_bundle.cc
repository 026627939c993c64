#include "k8s/operator/ca_bundle.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "k8s/api/base64.h"
#include "k8s/inject/json_view.h"
#include "sidecar/net/certificates.h"

namespace remora::k8s {
namespace {

bool contains(std::span<const std::string> all, const std::string& one) {
  return std::ranges::find(all, one) != all.end();
}

std::vector<std::string> bundle_of(const Json& webhook) {
  const Json* client = find_object(webhook, "clientConfig");
  if (client == nullptr) return {};
  return split_certificates(base64_decode(text_of(*client, "caBundle")).value_or(std::string()));
}

}  // namespace

Result<BundleView> read_bundles(std::string_view json) {
  const Json config = Json::parse(json, nullptr, false);
  const Json* metadata = find_object(config, "metadata");
  if (text_of(config, "kind") != "MutatingWebhookConfiguration" || metadata == nullptr) {
    return make_error(ErrorCode::kProtocol, ErrorSource::kUpstream,
                      "the answer is no MutatingWebhookConfiguration");
  }
  BundleView view;
  view.resource_version = text_of(*metadata, "resourceVersion");
  const Json* webhooks = find_array(config, "webhooks");
  if (webhooks == nullptr) return view;
  for (const Json& webhook : *webhooks) {
    const std::vector<std::string> bundle = bundle_of(webhook);
    for (const std::string& one : bundle) {
      if (!contains(view.present, one)) view.present.push_back(one);
    }
    if (view.webhooks++ == 0) {
      view.trusted = bundle;
    } else {
      std::erase_if(view.trusted, [&](const std::string& one) { return !contains(bundle, one); });
    }
  }
  return view;
}

bool trusts_all(const BundleView& view, std::span<const std::string> wanted) {
  return std::ranges::all_of(wanted,
                             [&](const std::string& one) { return contains(view.trusted, one); });
}

bool has_strangers(const BundleView& view, std::span<const std::string> wanted) {
  return std::ranges::any_of(view.present,
                             [&](const std::string& one) { return !contains(wanted, one); });
}

std::string bundle_patch(const BundleView& view, std::span<const std::string> certificates) {
  std::string bundle;
  for (const std::string& one : certificates) bundle += one;
  Json patch = Json::array();
  patch.push_back(
      {{"op", "test"}, {"path", "/metadata/resourceVersion"}, {"value", view.resource_version}});
  for (size_t i = 0; i < view.webhooks; ++i) {
    patch.push_back({{"op", "add"},  // replaces, too (RFC 6902 section 4.1)
                     {"path", "/webhooks/" + std::to_string(i) + "/clientConfig/caBundle"},
                     {"value", base64_encode(bundle)}});
  }
  return patch.dump();
}

void TrustTimes::update(const BundleView& view, MonotonicTime now) { update(view.trusted, now); }

void TrustTimes::update(std::span<const std::string> trusted, MonotonicTime now) {
  std::erase_if(since_, [&](const auto& entry) { return !contains(trusted, entry.first); });
  for (const std::string& one : trusted) since_.try_emplace(one, now);
}

bool TrustTimes::trusted_for(const std::string& authority, Duration least,
                             MonotonicTime now) const {
  const auto found = since_.find(authority);
  return found != since_.end() && now - found->second >= least;
}

}  // namespace remora::k8s
