// The caBundle of each webhook in a MutatingWebhookConfiguration: whom the API server believes when
// it calls us. Pure.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/base/clock.h"
#include "sidecar/base/error.h"

namespace remora::k8s {

// Certificates that nobody here knows are left in a bundle for this long: another replica may still
// use one. Then they are taken out.
inline constexpr int bundle_stranger_ms_max = 600'000;

struct BundleView {
  std::string resource_version;
  size_t webhooks = 0;
  // In every webhook's bundle; each by itself, in one form.
  std::vector<std::string> trusted;
  // In at least one of them.
  std::vector<std::string> present;
};

// kProtocol when it is no MutatingWebhookConfiguration.
Result<BundleView> read_bundles(std::string_view json);

bool trusts_all(const BundleView& view, std::span<const std::string> wanted);
bool has_strangers(const BundleView& view, std::span<const std::string> wanted);

// A JSON patch (RFC 6902) that puts these certificates, and no others, into each webhook; it is
// refused when the object has changed since.
std::string bundle_patch(const BundleView& view, std::span<const std::string> certificates);

// Since when the API server has believed each authority, as seen from here: a server must not show
// a certificate before its issuer has been in all bundles for a moment.
class TrustTimes {
 public:
  void update(const BundleView& view, MonotonicTime now);
  // After a patch that was accepted.
  void update(std::span<const std::string> trusted, MonotonicTime now);
  bool trusted_for(const std::string& authority, Duration least, MonotonicTime now) const;

 private:
  std::map<std::string, MonotonicTime> since_;
};

}  // namespace remora::k8s
