// The API server for a command that asks, waits, and ends: each call runs the loop until its answer
// is there. Errors have the right that is missing, where one is.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "k8s/api/client.h"
#include "k8s/inject/json_view.h"
#include "k8s/kubeconfig/kubeconfig.h"
#include "sidecar/net/event_loop.h"

namespace remora::k8s {

struct ClusterOptions {
  std::string kubeconfig;  // empty: $KUBECONFIG, else ~/.kube/config, else the pod's own account
  std::string context;     // empty: the current one
  std::string namespace_name;  // empty: the context's
  bool all_namespaces = false;
};

class Cluster {
 public:
  // Reads files, runs an exec plugin, resolves the server's name. Nothing is asked of it yet.
  static Result<std::unique_ptr<Cluster>> open(const ClusterOptions& options);

  const std::string& namespace_name() const { return namespace_name_; }
  bool all_namespaces() const { return all_namespaces_; }
  WallTime now() const { return loop_.clock().wall_now(); }

  // Any status is an answer.
  Result<ApiReply> send(ApiRequest request);
  // The object of a good answer.
  Result<Json> ask(const ApiRequest& request);
  Result<Json> get(const std::string& path);
  // Every item of a collection.
  Result<std::vector<Json>> list(const std::string& path);
  // Of the namespace, or of all of them: "/api/v1", "pods".
  Result<std::vector<Json>> list_here(const std::string& api, const std::string& plural);
  void wait(Duration time);

 private:
  Cluster() = default;
  Result<void> resolve(Kubeconfig& config);

  EventLoop loop_;
  std::unique_ptr<ApiClient> client_;
  std::string namespace_name_;
  bool all_namespaces_ = false;
};

}  // namespace remora::k8s
