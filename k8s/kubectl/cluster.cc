#include "k8s/kubectl/cluster.h"

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include <unistd.h>

#include "config/read_file.h"
#include "k8s/api/list.h"
#include "k8s/kubeconfig/exec_credential.h"
#include "sidecar/net/resolver.h"

namespace remora::k8s {
namespace {

constexpr const char* account_namespace_file =
    "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
constexpr size_t name_bytes_max = 253;

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

// Empty: there is none.
Result<std::string> kubeconfig_path(const ClusterOptions& options) {
  if (!options.kubeconfig.empty()) return options.kubeconfig;
  std::string named = environment("KUBECONFIG");
  if (named.find(':') != std::string::npos) {
    return make_error(
        ErrorCode::kInvalidArgument, ErrorSource::kConfig,
        "KUBECONFIG names several files: write them into one with kubectl config view "
        "--flatten --raw, and name that");
  }
  if (!named.empty()) return named;
  const std::string home = environment("HOME");
  const std::string usual = home + "/.kube/config";
  return !home.empty() && ::access(usual.c_str(), F_OK) == 0 ? usual : std::string();
}

Result<Kubeconfig> read_config(const ClusterOptions& options) {
  Result<std::string> path = kubeconfig_path(options);
  if (!path) return std::unexpected(std::move(path.error()));
  if (!path->empty()) {
    Result<Kubeconfig> config = load_kubeconfig(*path, options.context);
    if (!config) return std::unexpected(std::move(config.error()).with_context(*path));
    return config;
  }
  Result<ApiServer> server = in_cluster_api_server();
  if (!server) {
    return make_error(ErrorCode::kNotFound, ErrorSource::kConfig,
                      "there is no kubeconfig: write --kubeconfig FILE or set KUBECONFIG");
  }
  Kubeconfig config;
  config.server = std::move(*server);
  const Result<std::string> own = config::read_file(account_namespace_file, name_bytes_max);
  if (own) config.namespace_name = *own;
  return config;
}

}  // namespace

Result<std::unique_ptr<Cluster>> Cluster::open(const ClusterOptions& options) {
  Result<Kubeconfig> config = read_config(options);
  if (!config) return std::unexpected(std::move(config.error()));
  std::unique_ptr<Cluster> cluster(new Cluster());
  cluster->all_namespaces_ = options.all_namespaces;
  cluster->namespace_name_ =
      options.namespace_name.empty() ? config->namespace_name : options.namespace_name;
  if (cluster->namespace_name_.empty()) cluster->namespace_name_ = "default";
  if (config->exec) {
    Result<void> asked = add_exec_credential(*config->exec, config->server);
    if (!asked) return std::unexpected(std::move(asked.error()));
  }
  if (Result<void> resolved = cluster->resolve(*config); !resolved) {
    return std::unexpected(std::move(resolved.error()));
  }
  Result<std::unique_ptr<ApiClient>> client =
      ApiClient::create(cluster->loop_, std::move(config->server));
  if (!client) return std::unexpected(std::move(client.error()));
  cluster->client_ = std::move(*client);
  return cluster;
}

Result<void> Cluster::resolve(Kubeconfig& config) {
  if (config.host.empty()) return {};
  Result<std::unique_ptr<Resolver>> resolver = Resolver::create(loop_);
  if (!resolver) return std::unexpected(std::move(resolver.error()));
  std::optional<Result<std::vector<SocketAddress>>> found;
  const std::unique_ptr<Lookup> lookup =
      (*resolver)->resolve(config.host, config.port, [&](auto addresses) {
        found = std::move(addresses);
        loop_.stop();
      });
  loop_.run();
  if (!*found) return std::unexpected(std::move(found->error()).with_context(config.host));
  config.server.address = (*found)->front();
  return {};
}

Result<ApiReply> Cluster::send(ApiRequest request) {
  std::optional<Result<ApiReply>> answer;
  const std::unique_ptr<ApiCall> call =
      client_->call(std::move(request), [&](Result<ApiReply> reply) {
        answer = std::move(reply);
        loop_.stop();
      });
  loop_.run();
  if (!*answer) return std::unexpected(std::move(answer->error()).with_context("API server"));
  return std::move(*answer);
}

Result<Json> Cluster::ask(const ApiRequest& request) {
  Result<ApiReply> reply = send(request);
  if (!reply) return std::unexpected(std::move(reply.error()));
  if (!reply->ok()) return std::unexpected(api_error(request, *reply));
  Json object = Json::parse(reply->body, nullptr, false);
  if (object.is_object()) return object;
  return make_error(ErrorCode::kProtocol, ErrorSource::kUpstream,
                    request.path + ": the API server's answer is no object");
}

Result<Json> Cluster::get(const std::string& path) {
  ApiRequest request;
  request.path = path;
  return ask(request);
}

Result<std::vector<Json>> Cluster::list(const std::string& path) {
  std::vector<Json> items;
  std::optional<Result<void>> over;
  const PagedList reading(
      *client_, path, [&](const Json& item) { items.push_back(item); },
      [&](Result<void> result) {
        over = std::move(result);
        loop_.stop();
      });
  loop_.run();
  if (!*over) return std::unexpected(std::move(over->error()));
  return items;
}

Result<std::vector<Json>> Cluster::list_here(const std::string& api, const std::string& plural) {
  return list(all_namespaces_ ? api + "/" + plural
                              : api + "/namespaces/" + namespace_name_ + "/" + plural);
}

void Cluster::wait(Duration time) {
  const Subscription timer = loop_.add_timer(time, [this] { loop_.stop(); });
  loop_.run();
}

}  // namespace remora::k8s
