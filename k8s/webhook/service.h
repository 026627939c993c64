// The webhook over HTTPS: POST /mutate/label for pods that ask for Remora themselves, POST
// /mutate/namespace for those whose namespace asks, and /healthz and /readyz.
//
// The API server doesn't say who it is, so anybody who reaches the port may ask; all that is
// answered is what the patch of a pod would be. Connections, bodies and waiting requests are
// limited. Loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "k8s/inject/inject.h"
#include "k8s/webhook/admission.h"
#include "k8s/webhook/namespaces.h"
#include "sidecar/admin/metrics.h"
#include "sidecar/serve/http_server.h"

namespace remora::k8s {

inline constexpr size_t webhook_connections_max = 512;
// An API server has one for each admission under way, of which it allows 200 (its
// --max-mutating-requests-inflight). Whoever else calls can't take more than this either.
inline constexpr size_t webhook_connections_per_source_max = 256;
// Go's HTTP client, the API server's, gives up an idle connection after 90 s.
inline constexpr int webhook_keep_alive_ms_max = 120'000;
inline constexpr size_t webhook_bodies_bytes_max = 32 << 20;
// Of reviews that wait for their namespace.
inline constexpr size_t webhook_waiting_bytes_max = 4 << 20;

inline constexpr std::string_view mutate_by_label_path = "/mutate/label";
inline constexpr std::string_view mutate_by_namespace_path = "/mutate/namespace";

struct WebhookOptions {
  SocketAddress listen;
  // Namespace, its level and inject_by_default are filled in for each review.
  InjectOptions inject;
  // Never null from the start of the service on.
  std::function<std::shared_ptr<const TlsContext>()> tls;
  // The policy for a pod of this namespace with these labels; null: none. Left empty: there are
  // none.
  std::function<std::shared_ptr<const PolicyDefaults>(const std::string& namespace_name,
                                                      const config::Annotations& labels)>
      policy_for{};
  // Nodes that such a pod rather keeps away from now.
  std::function<std::vector<AvoidedNode>(const std::string& namespace_name,
                                         const config::Annotations& labels)>
      avoided{};
  // What keeps us from being called; empty: ready.
  std::function<std::string()> obstacle;
  // Where sidecars are to report, as of now.
  std::function<LinkTarget()> link = [] { return LinkTarget{}; };
};

// /healthz and /readyz; nothing for other paths.
std::optional<ServerResponse> health_response(const ServerRequest& request,
                                              const std::string& obstacle);
ServerResponse not_found_response(std::string_view path);

class WebhookService {
 public:
  // Makes the metrics. namespaces must outlive it.
  WebhookService(Loop& loop, MetricRegistry& registry, Namespaces& namespaces,
                 WebhookOptions options);
  // Binds and serves. Errors: those of HttpServer::start.
  Result<void> start();

  bool serves() const { return server_ != nullptr; }
  const SocketAddress& address() const { return server_->address(); }
  void set_kubernetes_version(std::string version) {
    options_.inject.kubernetes_version = std::move(version);
  }
  const InjectOptions& inject_options() const { return options_.inject; }
  // As of HttpServer; serves() must hold.
  void retire() { server_->retire(); }
  void drain(Task done) { server_->drain(std::move(done)); }

 private:
  struct Metrics {
    explicit Metrics(MetricRegistry& registry);
    Counter& injected;
    Counter& unchanged;
    Counter& skipped;
    Counter& refused;
    Counter& invalid;
    Histogram& duration;
  };
  void handle(const ServerRequest& request, ServerRespond respond);
  void mutate(const ServerRequest& request, bool inject_by_default, ServerRespond respond);
  ServerResponse answer(const AdmissionReview& review, const NamespaceTraits& traits,
                        bool inject_by_default);
  Counter& counter_of(std::string_view result);

  Loop& loop_;
  Namespaces& namespaces_;
  WebhookOptions options_;
  Metrics metrics_;
  size_t waiting_bytes_ = 0;
  std::unique_ptr<HttpServer> server_;
};

}  // namespace remora::k8s
