// Any bytes as a kubeconfig, and as what a credential program prints: never a crash, and what is
// accepted names a server.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "k8s/kubeconfig/exec_credential.h"
#include "k8s/kubeconfig/kubeconfig.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = remora::k8s::parse_kubeconfig(text, "/nowhere");
  if (config && config->server.name.empty()) std::abort();
  if (config && !config->host.empty() && config->port == 0) std::abort();
  remora::k8s::ApiServer server;
  const auto read = remora::k8s::read_exec_credential(text, server);
  if (read && server.token.empty() && server.certificate_pem.empty()) std::abort();
  return 0;
}
