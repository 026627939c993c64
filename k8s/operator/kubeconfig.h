// A kubeconfig file: where the API server is and who we are, for an operator outside of a cluster.
#pragma once

#include <string>
#include <string_view>

#include "k8s/api/server.h"
#include "sidecar/base/error.h"

namespace remora::k8s {

inline constexpr size_t kubeconfig_bytes_max = 1 << 20;

// The current context of the file. Certificates, keys and tokens may stand in it or in files of
// their own (relative names: beside it). kInvalidArgument, with what to change, for what can't be
// used: an exec plugin, a password, a server that is a name and no address, no authority.
Result<ApiServer> kubeconfig_api_server(const std::string& path);

// The same for a text; directory: of relative names.
Result<ApiServer> parse_kubeconfig(std::string_view text, const std::string& directory);

}  // namespace remora::k8s
