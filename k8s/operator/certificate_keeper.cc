#include "k8s/operator/certificate_keeper.h"

#include <algorithm>

#include "sidecar/base/log.h"

namespace remora::k8s {
namespace {

constexpr std::string_view config_path =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/";

bool is_conflict(const ApiReply& reply) {
  // 422: the test in a JSON patch has failed.
  return reply.status == 409 || reply.status == 422;
}

bool is_usable(const WebhookIdentity& identity, int64_t now_unix_s) {
  const Result<Validity> validity = validity_of(identity.server.certificate_pem);
  return validity && validity->not_before_unix_s <= now_unix_s &&
         now_unix_s < validity->not_after_unix_s &&
         is_key_of(identity.server.private_key_pem, identity.server.certificate_pem) &&
         !issuer_of(identity.server, authorities_of(identity)).empty();
}

}  // namespace

CertificateKeeper::CertificateKeeper(Loop& loop, ApiClient& client, KeeperOptions options,
                                     KeeperMetrics metrics, Task serving)
    : loop_(loop),
      client_(client),
      options_(std::move(options)),
      metrics_(metrics),
      serving_(std::move(serving)) {}

void CertificateKeeper::start() {
  next_ = loop_.add_timer({}, [this] { read_secret(); });
}

void CertificateKeeper::ask(ApiRequest request, Receive receive) {
  request_ = std::move(request);
  call_ = client_.call(request_, [this, receive](Result<ApiReply> reply) {
    if (!reply) return fail(reply.error());
    (this->*receive)(*reply);
  });
}

void CertificateKeeper::read_secret() {
  ask({.path = "/api/v1/namespaces/" + options_.namespace_name + "/secrets/" + options_.secret},
      &CertificateKeeper::on_secret);
}

void CertificateKeeper::on_secret(const ApiReply& reply) {
  if (reply.status == 404) {
    return renew_secret({}, {Renewal::kAuthority, "there is no Secret yet"});
  }
  if (!reply.ok()) return fail(api_error(request_, reply));
  Result<StoredIdentity> stored = read_identity_secret(reply.body);
  if (!stored) return fail(stored.error());
  const RenewalDecision decision = renewal_due(stored->identity, options_.rules, now_unix_s());
  // Also before a renewal: should that fail, what there is goes on being served.
  if (is_usable(stored->identity, now_unix_s())) take_over(stored->identity);
  if (decision.renewal != Renewal::kNone) return renew_secret(*stored, decision);
  read_config();
}

void CertificateKeeper::renew_secret(const StoredIdentity& stored,
                                     const RenewalDecision& decision) {
  Result<WebhookIdentity> renewed =
      renew(stored.identity, decision.renewal, options_.rules, now_unix_s());
  if (!renewed) return fail(renewed.error());
  log_info(
      "certificate_renewal",
      {{"why", decision.why}, {"with_new_authority", decision.renewal == Renewal::kAuthority}});
  written_ = std::move(*renewed);
  const bool is_new = stored.resource_version.empty();
  ApiRequest request;
  request.method = is_new ? "POST" : "PUT";
  request.path = "/api/v1/namespaces/" + options_.namespace_name + "/secrets";
  if (!is_new) request.path += "/" + options_.secret;
  request.body = write_identity_secret(written_, options_.namespace_name, options_.secret,
                                       stored.resource_version, is_new ? "Opaque" : stored.type);
  ask(std::move(request), &CertificateKeeper::on_secret_written);
}

void CertificateKeeper::on_secret_written(const ApiReply& reply) {
  if (is_conflict(reply)) {
    log_info("certificate_of_another_replica", {{"secret", options_.secret}});
    return end_round("another replica has written the Secret", true);
  }
  if (!reply.ok()) {
    note(api_error(request_, reply));
    if (identity_.server.certificate_pem.empty()) return end_round(trouble_);
    return read_config();  // with the one that should have been renewed
  }
  metrics_.renewals.add();
  take_over(std::move(written_));
  read_config();
}

void CertificateKeeper::take_over(WebhookIdentity identity) {
  if (identity == identity_) return;
  identity_ = std::move(identity);
  log_info("certificate_read", {{"secret", options_.secret}});
}

void CertificateKeeper::read_config() {
  ask({.path = std::string(config_path) + options_.webhook_config}, &CertificateKeeper::on_config);
}

void CertificateKeeper::on_config(const ApiReply& reply) {
  if (!reply.ok()) return fail(api_error(request_, reply));
  const Result<BundleView> view = read_bundles(reply.body);
  if (!view) return fail(view.error());
  const MonotonicTime now = loop_.now();
  trust_.update(*view, now);
  const std::vector<std::string> wanted = wanted_authorities();
  const bool strangers = has_strangers(*view, wanted);
  if (!std::exchange(has_strangers_, strangers)) strangers_since_ = now;
  const bool strangers_stayed =
      strangers && now - strangers_since_ >= std::chrono::milliseconds(bundle_stranger_ms_max);
  if (view->webhooks == 0) {
    return end_round(options_.webhook_config + " has no webhooks; apply install.yaml again");
  }
  if (trusts_all(*view, wanted) && !strangers_stayed) {
    trouble_.clear();
    return end_round({});
  }
  patched_with_ = wanted;
  ask({.method = "PATCH",
       .path = std::string(config_path) + options_.webhook_config,
       .body = bundle_patch(*view, wanted),
       .content_type = "application/json-patch+json"},
      &CertificateKeeper::on_config_patched);
}

void CertificateKeeper::on_config_patched(const ApiReply& reply) {
  if (is_conflict(reply)) return end_round("somebody else changes the caBundle", true);
  if (!reply.ok()) return fail(api_error(request_, reply));
  metrics_.bundle_patches.add();
  log_info("ca_bundle_written",
           {{"webhook_config", options_.webhook_config}, {"authorities", patched_with_.size()}});
  trust_.update(patched_with_, loop_.now());
  has_strangers_ = false;
  trouble_.clear();
  end_round({});
}

// Those that replicas may serve certificates of, now and next, and did until a moment ago.
std::vector<std::string> CertificateKeeper::wanted_authorities() const {
  std::vector<std::string> wanted = authorities_of(identity_);
  const auto add = [&](const std::string& one) {
    if (!one.empty() && std::ranges::find(wanted, one) == wanted.end()) wanted.push_back(one);
  };
  add(served_issuer_);
  constexpr std::chrono::milliseconds kept{bundle_stranger_ms_max};
  for (const auto& [authority, since] : retired_) {
    if (loop_.now() - since <= kept) add(authority);
  }
  return wanted;
}

std::string CertificateKeeper::trusted_pem() const {
  std::string pem;
  for (const std::string& one : wanted_authorities()) pem += one;
  return pem;
}

// True when the Secret's certificate is the one that is served.
bool CertificateKeeper::serve_when_trusted() {
  if (identity_.server == served_) return tls_ != nullptr;
  const std::string issuer = issuer_of(identity_.server, authorities_of(identity_));
  if (!may_serve(issuer)) return false;
  auto context =
      make_tls_server_context({identity_.server.certificate_pem, identity_.server.private_key_pem});
  if (!context) {
    metrics_.failures.add();
    log_error("certificate_unusable", {{"error", context.error().message}});
    return false;
  }
  auto link_context = make_tls_server_context(
      {identity_.server.certificate_pem, identity_.server.private_key_pem}, {"h2"});
  tls_ = std::move(*context);
  if (link_context) link_tls_ = std::move(*link_context);
  if (!served_issuer_.empty() && served_issuer_ != issuer) {
    std::erase_if(retired_, [&](const auto& entry) { return entry.first == served_issuer_; });
    retired_.emplace_back(served_issuer_, loop_.now());
  }
  served_ = identity_.server;
  served_issuer_ = issuer;
  if (const Result<Validity> validity = validity_of(served_.certificate_pem)) {
    metrics_.expiry.set(static_cast<double>(validity->not_after_unix_s));
    log_info("certificate_served",
             {{"from", options_.secret}, {"not_after_unix_s", validity->not_after_unix_s}});
  }
  return true;
}

bool CertificateKeeper::may_serve(const std::string& issuer) const {
  if (!tls_) return !issuer.empty();  // nothing is better than this one
  const Result<Validity> served = validity_of(served_.certificate_pem);
  if (!served || served->not_after_unix_s <= now_unix_s()) return true;
  return trust_.trusted_for(issuer, std::chrono::milliseconds(bundle_settle_ms), loop_.now());
}

void CertificateKeeper::note(const Error& error) {
  metrics_.failures.add();
  if (error.message == trouble_) return;
  trouble_ = error.message;
  log_warn("certificate_round_failed", {{"error", error.message}});
}

void CertificateKeeper::fail(const Error& error) {
  note(error);
  // What was in order before this round is taken to be so still; what never was, is not.
  end_round(obstacle_.empty() ? std::string() : error.message);
}

void CertificateKeeper::end_round(std::string obstacle, bool soon) {
  obstacle_ = std::move(obstacle);
  int next_ms = certificate_poll_ms;
  if (!identity_.server.certificate_pem.empty() && !serve_when_trusted()) {
    next_ms = bundle_settle_ms;
  }
  if (soon || !tls_) next_ms = certificate_retry_ms;
  next_ = loop_.add_timer(std::chrono::milliseconds(next_ms), [this] { read_secret(); });
  if (tls_ && serving_) std::exchange(serving_, nullptr)();
}

int64_t CertificateKeeper::now_unix_s() const {
  return std::chrono::duration_cast<std::chrono::seconds>(
             loop_.clock().wall_now().time_since_epoch())
      .count();
}

}  // namespace remora::k8s
