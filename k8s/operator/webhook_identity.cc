#include "k8s/operator/webhook_identity.h"

#include <algorithm>
#include <utility>

namespace remora::k8s {
namespace {

constexpr std::string_view authority_name = "Remora webhook authority";
constexpr int64_t renewed_with_parts_left = 3;

bool is_worn(const Validity& validity, int64_t now_unix_s) {
  const int64_t life_s = validity.not_after_unix_s - validity.not_before_unix_s;
  return validity.not_after_unix_s - now_unix_s < life_s / renewed_with_parts_left;
}

// Why the authority can't sign; empty when it can.
std::string authority_fault(const CertifiedKey& authority, int64_t now_unix_s) {
  const Result<Validity> validity = validity_of(authority.certificate_pem);
  if (!validity) return "there is no authority to read";
  if (!is_key_of(authority.private_key_pem, authority.certificate_pem)) {
    return "the authority's key is missing or not its own";
  }
  if (is_worn(*validity, now_unix_s)) return "the authority comes to its end";
  return {};
}

std::string server_fault(const WebhookIdentity& identity, const IdentityRules& rules,
                         int64_t now_unix_s) {
  const CertifiedKey& server = identity.server;
  const Result<Validity> validity = validity_of(server.certificate_pem);
  if (!validity) return "there is no certificate to read";
  if (!is_key_of(server.private_key_pem, server.certificate_pem)) {
    return "the certificate's key is missing or not its own";
  }
  if (issuer_of(server, authorities_of(identity)).empty()) {
    return "no authority of ours has signed the certificate";
  }
  if (now_unix_s < validity->not_before_unix_s) return "the certificate does not hold yet";
  if (is_worn(*validity, now_unix_s)) return "the certificate comes to its end";
  for (const std::string& name : rules.names) {
    if (!is_certificate_for(server.certificate_pem, name)) {
      return "the certificate is not for " + name;
    }
  }
  return {};
}

// Those that still hold, at most as many as fit behind a new one.
std::string kept_authorities(const WebhookIdentity& identity, int64_t now_unix_s) {
  std::string kept;
  size_t count = 1;
  for (const std::string& one : authorities_of(identity)) {
    const Result<Validity> validity = validity_of(one);
    if (!validity || validity->not_after_unix_s <= now_unix_s) continue;
    if (++count > authorities_max) break;
    kept += one;
  }
  return kept;
}

}  // namespace

RenewalDecision renewal_due(const WebhookIdentity& identity, const IdentityRules& rules,
                            int64_t now_unix_s) {
  std::string authority = authority_fault(identity.authority, now_unix_s);
  std::string server = server_fault(identity, rules, now_unix_s);
  if (authority.empty() && server.empty()) return {};
  if (authority.empty()) return {Renewal::kServer, std::move(server)};
  // Somebody else's identity, whose authority we can't use, is good for as long as it holds.
  const bool without_key = identity.authority.private_key_pem.empty();
  if (server.empty() && without_key) return {};
  return {Renewal::kAuthority, std::move(authority)};
}

Result<WebhookIdentity> renew(const WebhookIdentity& identity, Renewal renewal,
                              const IdentityRules& rules, int64_t now_unix_s) {
  WebhookIdentity renewed = identity;
  const int64_t from = now_unix_s - certificate_backdate_s;
  if (renewal == Renewal::kAuthority) {
    Result<CertifiedKey> authority =
        make_authority(authority_name, {from, now_unix_s + rules.authority_life_s});
    if (!authority) return std::unexpected(std::move(authority.error()));
    renewed.authority = std::move(*authority);
  }
  const Result<Validity> authority = validity_of(renewed.authority.certificate_pem);
  if (!authority) return std::unexpected(authority.error());
  Result<CertifiedKey> server = issue_server_certificate(
      renewed.authority, rules.names,
      {from, std::min(now_unix_s + rules.server_life_s, authority->not_after_unix_s)});
  if (!server) return std::unexpected(std::move(server.error()));
  renewed.server = std::move(*server);
  if (renewal == Renewal::kAuthority) {
    renewed.authority.certificate_pem += kept_authorities(identity, now_unix_s);
  }
  return renewed;
}

std::vector<std::string> authorities_of(const WebhookIdentity& identity) {
  return split_certificates(identity.authority.certificate_pem);
}

std::string issuer_of(const CertifiedKey& server, std::span<const std::string> authorities) {
  const auto found = std::ranges::find_if(authorities, [&](const std::string& authority) {
    return is_signed_by(server.certificate_pem, authority);
  });
  return found == authorities.end() ? std::string() : *found;
}

}  // namespace remora::k8s
