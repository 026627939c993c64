// The webhook's identity as a core/v1 Secret, which all replicas share: ca.crt, ca.key, tls.crt,
// tls.key. Pure.
#pragma once

#include <string>
#include <string_view>

#include "k8s/operator/webhook_identity.h"
#include "sidecar/base/error.h"

namespace remora::k8s {

struct StoredIdentity {
  WebhookIdentity identity;  // with empty parts where the Secret has none
  std::string resource_version;
  std::string type;
};

// kProtocol when it is no Secret. What its values are worth is for renewal_due() to say.
Result<StoredIdentity> read_identity_secret(std::string_view json);
// resource_version empty: for a creation; else the update fails when somebody was faster.
std::string write_identity_secret(const WebhookIdentity& identity, std::string_view namespace_name,
                                  std::string_view name, std::string_view resource_version,
                                  std::string_view type = "Opaque");

}  // namespace remora::k8s
