#include "k8s/kubeconfig/kubeconfig.h"

#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "config/read_file.h"
#include "k8s/api/base64.h"
#include "k8s/inject/json_view.h"
#include "k8s/inject/yaml_json.h"

namespace remora::k8s {
namespace {

constexpr std::string_view https = "https://";
constexpr std::string_view http = "http://";
constexpr unsigned port_max = 65'535;
constexpr size_t host_name_bytes_max = 253;

bool is_host_name(std::string_view host) {
  constexpr std::string_view allowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.";
  return !host.empty() && host.size() <= host_name_bytes_max &&
         host.find_first_not_of(allowed) == std::string_view::npos;
}

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

uint16_t port_of(std::string_view text) {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && port >= 1 && port <= port_max ? static_cast<uint16_t>(port) : 0;
}

// "https://HOST[:PORT]" into address or host; a path, of a proxy in front of several clusters, is
// refused.
Result<void> read_url(std::string url, Kubeconfig& out) {
  ApiServer& server = out.server;
  server.tls = url.starts_with(https);
  if (!server.tls && !url.starts_with(http)) {
    return unusable("the server must be https://HOST:PORT");
  }
  url.erase(0, server.tls ? https.size() : http.size());
  while (url.ends_with('/')) url.pop_back();
  if (url.empty() || url.find_first_of("/@?#") != std::string::npos) {
    return unusable("the server must be https://HOST:PORT, with nothing after it");
  }
  const std::string default_port = server.tls ? ":443" : ":80";
  Result<SocketAddress> address = parse_socket_address(url);
  if (!address) address = parse_socket_address(url + default_port);
  const size_t bracket = url.rfind(']');
  server.name = url.substr(0, bracket == std::string::npos ? url.rfind(':') : bracket);
  if (server.name.starts_with('[')) server.name.erase(0, 1);
  if (address) {
    server.address = *address;
    return {};
  }
  out.host = server.name;
  const size_t colon = url.rfind(':');
  out.port = port_of(colon == std::string::npos ? default_port.substr(1) : url.substr(colon + 1));
  if (out.port != 0 && is_host_name(out.host)) return {};
  return unusable("the server " + url + " is no HOST:PORT");
}

Result<void> read_server(const Json& cluster, const std::string& directory, Kubeconfig& out) {
  if (bool_of(cluster, "insecure-skip-tls-verify").value_or(false)) {
    return unusable(
        "insecure-skip-tls-verify is not supported: write certificate-authority(-data)");
  }
  if (!text_of(cluster, "proxy-url").empty()) {
    return unusable("proxy-url is not supported: use a kubectl proxy and http://127.0.0.1:8001");
  }
  if (Result<void> read = read_url(text_of(cluster, "server"), out); !read) return read;
  if (!out.server.tls) return {};
  if (const std::string name = text_of(cluster, "tls-server-name"); !name.empty()) {
    out.server.name = name;
  }
  Result<std::string> trusted = material(cluster, "certificate-authority", directory);
  if (!trusted) return std::unexpected(std::move(trusted.error()));
  if (trusted->empty()) return unusable("the cluster needs certificate-authority(-data)");
  out.server.trusted_pem = std::move(*trusted);
  return {};
}

Result<ExecPlugin> read_exec(const Json& exec) {
  ExecPlugin plugin{.command = text_of(exec, "command"),
                    .arguments = {},
                    .environment = {},
                    .api_version = text_of(exec, "apiVersion"),
                    .install_hint = text_of(exec, "installHint")};
  if (plugin.command.empty()) return unusable("exec needs a command");
  if (plugin.api_version.empty()) return unusable("exec needs an apiVersion");
  if (const Json* arguments = find_array(exec, "args")) {
    for (const Json& each : *arguments) {
      if (!each.is_string()) return unusable("exec: args must be texts");
      plugin.arguments.push_back(each.get<std::string>());
    }
  }
  if (const Json* variables = find_array(exec, "env")) {
    for (const Json& each : *variables) {
      plugin.environment.emplace_back(text_of(each, "name"), text_of(each, "value"));
    }
  }
  return plugin;
}

Result<void> read_user(const Json& user, const std::string& directory, Kubeconfig& out) {
  if (find(user, "auth-provider") != nullptr || find(user, "password") != nullptr) {
    return unusable(
        "auth-provider and password are not supported: use a token, a client certificate or an "
        "exec plugin");
  }
  for (const char* key : {"as", "as-uid", "as-groups"}) {
    if (find(user, key) != nullptr) return unusable(std::string(key) + " is not supported");
  }
  if (const Json* exec = find_object(user, "exec")) {
    Result<ExecPlugin> plugin = read_exec(*exec);
    if (!plugin) return std::unexpected(std::move(plugin.error()));
    out.exec = std::move(*plugin);
  }
  ApiServer& server = out.server;
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

Result<Kubeconfig> parse_kubeconfig(std::string_view text, const std::string& directory,
                                    const std::string& context_name) {
  const auto file = yaml_to_json(text);
  if (!file) return unusable(file.error().message);
  const std::string current =
      context_name.empty() ? text_of(*file, "current-context") : context_name;
  const Json* context = named(*file, "contexts", current, "context");
  if (context == nullptr) return unusable("there is no context \"" + current + "\"");
  const Json* cluster = named(*file, "clusters", text_of(*context, "cluster"), "cluster");
  if (cluster == nullptr) return unusable("the cluster of context \"" + current + "\" is missing");
  const Json* user = named(*file, "users", text_of(*context, "user"), "user");
  if (user == nullptr) return unusable("the user of context \"" + current + "\" is missing");
  Kubeconfig out;
  if (Result<void> read = read_server(*cluster, directory, out); !read) {
    return std::unexpected(std::move(read.error()));
  }
  if (Result<void> read = read_user(*user, directory, out); !read) {
    return std::unexpected(std::move(read.error()));
  }
  out.namespace_name = text_of(*context, "namespace");
  return out;
}

Result<Kubeconfig> load_kubeconfig(const std::string& path, const std::string& context) {
  const Result<std::string> text = config::read_file(path, kubeconfig_bytes_max);
  if (!text) return std::unexpected(text.error());
  const size_t slash = path.rfind('/');
  return parse_kubeconfig(*text, slash == std::string::npos ? "." : path.substr(0, slash), context);
}

Result<ApiServer> kubeconfig_api_server(const std::string& path) {
  Result<Kubeconfig> read = load_kubeconfig(path);
  if (!read) return std::unexpected(std::move(read.error()));
  if (read->exec) {
    return unusable("an exec plugin's credentials run out: use a token or a client certificate");
  }
  if (!read->host.empty()) {
    return unusable("the server " + read->host +
                    " is no ADDRESS:PORT: write its IP address, and its name as tls-server-name");
  }
  return std::move(read->server);
}

}  // namespace remora::k8s
