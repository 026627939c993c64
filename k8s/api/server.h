// Where the API server is, and who we are to it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "sidecar/base/error.h"
#include "sidecar/net/socket_address.h"
#include "sidecar/net/transport.h"

namespace remora::k8s {

struct ApiServer {
  SocketAddress address;
  std::string name;  // Host, and what its certificate is checked for
  bool tls = true;
  std::string trusted_pem;      // required with tls
  std::string token_file;       // read for each request; empty: no Authorization
  std::string token;            // used where there is no token_file
  std::string certificate_pem;  // shown to the server; empty: none
  std::string private_key_pem;
  // For a server that is known by its name only: makes each connection, TLS included, in the place
  // of address, tls and the certificates.
  std::function<std::unique_ptr<Transport>()> connect{};
};

// From the environment and the mounted service account of a pod. kNotFound outside one.
Result<ApiServer> in_cluster_api_server();
// http://ADDRESS:PORT, for a kubectl proxy. kInvalidArgument otherwise.
Result<ApiServer> plain_api_server(std::string_view url);

}  // namespace remora::k8s
