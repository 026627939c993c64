#include "k8s/api/server.h"

#include <cstdlib>
#include <utility>

#include "config/read_file.h"

namespace remora::k8s {
namespace {

constexpr std::string_view account_dir = "/var/run/secrets/kubernetes.io/serviceaccount";
constexpr size_t small_file_bytes_max = 1 << 20;

}  // namespace

Result<ApiServer> in_cluster_api_server() {
  const char* const host = std::getenv("KUBERNETES_SERVICE_HOST");
  const char* const port = std::getenv("KUBERNETES_SERVICE_PORT");
  if (host == nullptr || port == nullptr) {
    return make_error(ErrorCode::kNotFound, ErrorSource::kConfig,
                      "this is no pod: KUBERNETES_SERVICE_HOST is not set; use --api-server "
                      "http://127.0.0.1:8001 with a kubectl proxy");
  }
  ApiServer server;
  server.name = host;
  const bool is_v6 = server.name.find(':') != std::string::npos;
  Result<SocketAddress> address =
      parse_socket_address((is_v6 ? "[" + server.name + "]" : server.name) + ":" + port);
  if (!address) return std::unexpected(std::move(address.error()));
  server.address = *address;
  Result<std::string> trusted =
      config::read_file(std::string(account_dir) + "/ca.crt", small_file_bytes_max);
  if (!trusted) return std::unexpected(std::move(trusted.error()));
  server.trusted_pem = std::move(*trusted);
  server.token_file = std::string(account_dir) + "/token";
  return server;
}

Result<ApiServer> plain_api_server(std::string_view url) {
  constexpr std::string_view scheme = "http://";
  if (!url.starts_with(scheme)) {
    return make_error(
        ErrorCode::kInvalidArgument, ErrorSource::kConfig,
        "an API server outside the cluster is http://ADDRESS:PORT of a kubectl proxy");
  }
  url.remove_prefix(scheme.size());
  if (url.ends_with('/')) url.remove_suffix(1);
  Result<SocketAddress> address = parse_socket_address(std::string(url));
  if (!address) return std::unexpected(std::move(address.error()));
  ApiServer server;
  server.address = *address;
  server.name = url;
  server.tls = false;
  return server;
}

}  // namespace remora::k8s
