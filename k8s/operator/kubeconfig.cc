#include "k8s/operator/kubeconfig.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "config/read_file.h"
#include "k8s/api/base64.h"
#include "k8s/inject/json_view.h"
#include "k8s/inject/yaml_json.h"

namespace remora::k8s {
namespace {

std::unexpected<Error> unusable(const std::string& what) {
  return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig, "kubeconfig: " + what);
}

std::string placed(const std::string& path, const std::string& directory) {
  return path.starts_with('/') ? path : directory + "/" + path;
}

// The value of KEY-data, or what is in the file that KEY names; empty when there is neither.
Result<std::string> material(const Json& object, const std::string& key,
                             const std::string& directory) {
  const std::string data = text_of(object, key + "-data");
  if (!data.empty()) {
    Result<std::string> bytes = base64_decode(data);
    if (!bytes) return unusable(key + "-data is no base64");
    return bytes;
  }
  const std::string path = text_of(object, key);
  if (path.empty()) return std::string();
  return config::read_file(placed(path, directory), kubeconfig_bytes_max);
}

// The object `what` of the item of that name: clusters, users and contexts are all built so.
const Json* named(const Json& file, const char* list, const std::string& name, const char* what) {
  const Json* item = find_named(find_array(file, list), "name", name);
  return item == nullptr ? nullptr : find_object(*item, what);
}

Result<void> read_server(const Json& cluster, const std::string& directory, ApiServer& server) {
  std::string url = text_of(cluster, "server");
  constexpr std::string_view scheme = "https://";
  if (!url.starts_with(scheme)) return unusable("the server must be https://ADDRESS:PORT");
  url.erase(0, scheme.size());
  while (url.ends_with('/')) url.pop_back();
  Result<SocketAddress> address = parse_socket_address(url);
  if (!address) address = parse_socket_address(url + ":443");
  if (!address) {
    return unusable("the server " + url +
                    " is no ADDRESS:PORT: write its IP address, and its name as tls-server-name");
  }
  server.address = *address;
  server.name = text_of(cluster, "tls-server-name");
  if (server.name.empty()) {
    server.name = url.substr(0, url.rfind(']') == std::string::npos ? url.rfind(':') : url.npos);
    if (server.name.starts_with('['))
      server.name = server.name.substr(1, server.name.find(']') - 1);
  }
  Result<std::string> trusted = material(cluster, "certificate-authority", directory);
  if (!trusted) return std::unexpected(std::move(trusted.error()));
  if (trusted->empty()) return unusable("the cluster needs certificate-authority(-data)");
  server.trusted_pem = std::move(*trusted);
  return {};
}

Result<void> read_user(const Json& user, const std::string& directory, ApiServer& server) {
  if (find(user, "exec") != nullptr || find(user, "auth-provider") != nullptr ||
      find(user, "password") != nullptr) {
    return unusable(
        "exec, auth-provider and password are not supported: use a token or a "
        "client certificate");
  }
  server.token = text_of(user, "token");
  server.token_file = text_of(user, "tokenFile");
  if (!server.token_file.empty()) server.token_file = placed(server.token_file, directory);
  Result<std::string> certificate = material(user, "client-certificate", directory);
  if (!certificate) return std::unexpected(std::move(certificate.error()));
  Result<std::string> key = material(user, "client-key", directory);
  if (!key) return std::unexpected(std::move(key.error()));
  if (certificate->empty() != key->empty()) {
    return unusable("client-certificate and client-key belong together");
  }
  server.certificate_pem = std::move(*certificate);
  server.private_key_pem = std::move(*key);
  return {};
}

}  // namespace

Result<ApiServer> parse_kubeconfig(std::string_view text, const std::string& directory) {
  const auto file = yaml_to_json(text);
  if (!file) return unusable(file.error().message);
  const std::string current = text_of(*file, "current-context");
  const Json* context = named(*file, "contexts", current, "context");
  if (context == nullptr) return unusable("there is no context \"" + current + "\"");
  const Json* cluster = named(*file, "clusters", text_of(*context, "cluster"), "cluster");
  if (cluster == nullptr) return unusable("the cluster of context \"" + current + "\" is missing");
  const Json* user = named(*file, "users", text_of(*context, "user"), "user");
  if (user == nullptr) return unusable("the user of context \"" + current + "\" is missing");
  ApiServer server;
  if (Result<void> read = read_server(*cluster, directory, server); !read) {
    return std::unexpected(std::move(read.error()));
  }
  if (Result<void> read = read_user(*user, directory, server); !read) {
    return std::unexpected(std::move(read.error()));
  }
  return server;
}

Result<ApiServer> kubeconfig_api_server(const std::string& path) {
  const Result<std::string> text = config::read_file(path, kubeconfig_bytes_max);
  if (!text) return std::unexpected(text.error());
  const size_t slash = path.rfind('/');
  return parse_kubeconfig(*text, slash == std::string::npos ? "." : path.substr(0, slash));
}

}  // namespace remora::k8s
