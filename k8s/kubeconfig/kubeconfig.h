// A kubeconfig file: where the API server is and who we are, outside of a cluster.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "k8s/api/server.h"
#include "sidecar/base/error.h"

namespace remora::k8s {

inline constexpr size_t kubeconfig_bytes_max = 1 << 20;

// A program that prints credentials (client.authentication.k8s.io), as hosted clusters use them.
struct ExecPlugin {
  std::string command;
  std::vector<std::string> arguments;
  std::vector<std::pair<std::string, std::string>> environment;
  std::string api_version;
  std::string install_hint;  // what to do where the program isn't there
};

struct Kubeconfig {
  ApiServer server;   // its address is missing where host is set
  std::string host;   // a name that has to be resolved first; empty: server.address is right
  uint16_t port = 0;  // of host
  std::string namespace_name;  // of the context; empty: it names none
  std::optional<ExecPlugin> exec;
};

// context empty: the current one. Certificates, keys and tokens may stand in it or in files of
// their own (relative names: beside it). kInvalidArgument, with what to change, for what can't be
// used: a password, another user's identity, a proxy, a server that isn't checked, no authority.
Result<Kubeconfig> load_kubeconfig(const std::string& path, const std::string& context = {});
// The same for a text; directory: of relative names.
Result<Kubeconfig> parse_kubeconfig(std::string_view text, const std::string& directory,
                                    const std::string& context = {});

// For who runs for long: nothing to be resolved, and no plugin, whose credentials run out.
Result<ApiServer> kubeconfig_api_server(const std::string& path);

}  // namespace remora::k8s
