// The certificate that the webhook shows, and the authority behind it: when they are to be renewed,
// and how. Pure but for the dice of key generation; the time is passed in.
//
// The authority's text holds the newest authority first, which signs, and after it those that it
// replaced, so that certificates of theirs are still believed while they are in use.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "sidecar/net/certificates.h"

namespace remora::k8s {

inline constexpr int64_t day_s = 86'400;
// Clocks of nodes differ; a certificate must hold for those that are behind.
inline constexpr int64_t certificate_backdate_s = 3'600;
inline constexpr size_t authorities_max = 3;

struct WebhookIdentity {
  CertifiedKey authority;
  CertifiedKey server;
  friend bool operator==(const WebhookIdentity&, const WebhookIdentity&) = default;
};

struct IdentityRules {
  std::vector<std::string> names;  // by which the API server calls us; at least one
  int64_t server_life_s = 90 * day_s;
  int64_t authority_life_s = 3'650 * day_s;
};

enum class Renewal {
  kNone,
  kServer,     // a new server certificate by the same authority
  kAuthority,  // a new authority, and a server certificate by it
};
struct RenewalDecision {
  Renewal renewal = Renewal::kNone;
  std::string why;  // empty for kNone
};

// A certificate is renewed when less than a third of its life is left, when it doesn't hold yet, or
// when it is not for one of the names. The authority also when its key is missing.
RenewalDecision renewal_due(const WebhookIdentity& identity, const IdentityRules& rules,
                            int64_t now_unix_s);

// identity may be empty or broken when renewal is kAuthority; authorities of it that still hold are
// kept behind the new one. Errors: those of make_authority and issue_server_certificate.
Result<WebhookIdentity> renew(const WebhookIdentity& identity, Renewal renewal,
                              const IdentityRules& rules, int64_t now_unix_s);

// The authorities that the API server must believe in to call a server with this identity: those of
// its text, each by itself.
std::vector<std::string> authorities_of(const WebhookIdentity& identity);
// The one of them that signed the server's certificate; empty when none did.
std::string issuer_of(const CertifiedKey& server, std::span<const std::string> authorities);

}  // namespace remora::k8s
