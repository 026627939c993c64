#include "k8s/operator/identity_secret.h"

#include <nlohmann/json.hpp>

#include "k8s/api/base64.h"
#include "k8s/inject/json_view.h"

namespace remora::k8s {
namespace {

constexpr const char* authority_certificate_key = "ca.crt";
constexpr const char* authority_private_key = "ca.key";
constexpr const char* server_certificate_key = "tls.crt";
constexpr const char* server_private_key = "tls.key";

std::string decoded(const Json* data, const char* key) {
  if (data == nullptr) return {};
  // What is no base64 is a value that can't be used, as one that is missing.
  return base64_decode(text_of(*data, key)).value_or(std::string());
}

}  // namespace

Result<StoredIdentity> read_identity_secret(std::string_view json) {
  const Json secret = Json::parse(json, nullptr, false);
  const Json* metadata = find_object(secret, "metadata");
  if (text_of(secret, "kind") != "Secret" || metadata == nullptr) {
    return make_error(ErrorCode::kProtocol, ErrorSource::kUpstream, "the answer is no Secret");
  }
  const Json* data = find_object(secret, "data");
  StoredIdentity stored;
  stored.identity.authority = {decoded(data, authority_certificate_key),
                               decoded(data, authority_private_key)};
  stored.identity.server = {decoded(data, server_certificate_key),
                            decoded(data, server_private_key)};
  stored.resource_version = text_of(*metadata, "resourceVersion");
  stored.type = text_of(secret, "type");
  return stored;
}

std::string write_identity_secret(const WebhookIdentity& identity, std::string_view namespace_name,
                                  std::string_view name, std::string_view resource_version,
                                  std::string_view type) {
  Json secret = {{"apiVersion", "v1"}, {"kind", "Secret"}, {"type", type}};
  Json& metadata = secret["metadata"];
  metadata = {{"name", name},
              {"namespace", namespace_name},
              {"labels",
               {{"app.kubernetes.io/name", "remora"},
                {"app.kubernetes.io/managed-by", "remora-operator"}}}};
  if (!resource_version.empty()) metadata["resourceVersion"] = resource_version;
  secret["data"] = {{authority_certificate_key, base64_encode(identity.authority.certificate_pem)},
                    {authority_private_key, base64_encode(identity.authority.private_key_pem)},
                    {server_certificate_key, base64_encode(identity.server.certificate_pem)},
                    {server_private_key, base64_encode(identity.server.private_key_pem)}};
  return secret.dump();
}

}  // namespace remora::k8s
