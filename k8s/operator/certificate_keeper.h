// Keeps the webhook callable with a certificate of our own: the identity in a Secret that all
// replicas share, and our authority in the caBundle of the webhook configuration.
//
// Every certificate_poll_ms one round: read the Secret (make it if there is none, renew it if it is
// time, take over what somebody else wrote), read the configuration, put our authorities into its
// bundles if they are not all there, and serve the Secret's certificate. A new certificate is
// served only once its issuer has been in all bundles for bundle_settle_ms, so that no API server
// is shown one that it can't believe yet; until then the old one is. Writes carry the version that
// was read: of two replicas one wins, the other reads again.
//
// Whatever fails is tried again in the next round; what is served stays served.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "k8s/api/client.h"
#include "k8s/operator/ca_bundle.h"
#include "k8s/operator/identity_secret.h"
#include "k8s/operator/served_certificate.h"
#include "k8s/operator/webhook_identity.h"
#include "sidecar/admin/metrics.h"

namespace remora::k8s {

// From the acceptance of a bundle to every API server's use of it: they watch the configuration.
inline constexpr int bundle_settle_ms = 5'000;

struct KeeperOptions {
  std::string namespace_name;
  std::string secret;
  std::string webhook_config;
  IdentityRules rules;
};

struct KeeperMetrics {
  Gauge& expiry;  // Unix seconds
  Counter& renewals;
  Counter& bundle_patches;
  Counter& failures;
};

class CertificateKeeper final : public ServedCertificate {
 public:
  // client must outlive it. serving is called once, when there is a certificate for the first time.
  CertificateKeeper(Loop& loop, ApiClient& client, KeeperOptions options, KeeperMetrics metrics,
                    Task serving);
  void start();

  std::shared_ptr<const TlsContext> tls() const override { return tls_; }
  std::shared_ptr<const TlsContext> link_tls() const override { return link_tls_; }
  std::string trusted_pem() const override;
  const std::string& obstacle() const override { return obstacle_; }

 private:
  using Receive = void (CertificateKeeper::*)(const ApiReply& reply);

  // Each step ends the round or begins the next step.
  void read_secret();
  void on_secret(const ApiReply& reply);
  void renew_secret(const StoredIdentity& stored, const RenewalDecision& decision);
  void on_secret_written(const ApiReply& reply);
  void read_config();
  void on_config(const ApiReply& reply);
  void on_config_patched(const ApiReply& reply);
  void end_round(std::string obstacle, bool soon = false);

  void ask(ApiRequest request, Receive receive);
  void note(const Error& error);
  void fail(const Error& error);
  void take_over(WebhookIdentity identity);
  std::vector<std::string> wanted_authorities() const;
  bool serve_when_trusted();
  bool may_serve(const std::string& issuer) const;
  int64_t now_unix_s() const;

  Loop& loop_;
  ApiClient& client_;
  const KeeperOptions options_;
  const KeeperMetrics metrics_;
  Task serving_;

  WebhookIdentity identity_;  // the Secret's; empty until one was read or made
  WebhookIdentity written_;   // on its way into the Secret
  CertifiedKey served_;       // what tls_ is made of
  std::string served_issuer_;
  std::shared_ptr<const TlsContext> tls_;
  std::shared_ptr<const TlsContext> link_tls_;
  // Issuers of what was served before: other replicas may serve it a little longer.
  std::vector<std::pair<std::string, MonotonicTime>> retired_;
  TrustTimes trust_;
  bool has_strangers_ = false;
  MonotonicTime strangers_since_{};
  std::vector<std::string> patched_with_;
  std::string obstacle_ = "the certificate has not been read yet";
  std::string trouble_;  // logged

  ApiRequest request_;
  std::unique_ptr<ApiCall> call_;
  Subscription next_;
};

}  // namespace remora::k8s
