// `remora operator`: everything is made and wired here. One loop, one thread.
//
// With --heal the replicas elect one that also heals pods; one that loses the lead ends with exit
// code 1, after it has served the webhook's callers as at any other end.
//
// With a link it also hears the sidecars: all replicas take calls, the one that heals answers.
//
// It begins with what it needs to answer, in this order: the namespaces' labels, a certificate, the
// webhook. It ends on SIGTERM or SIGINT: not ready at once, served on for leave_ms, so that nobody
// calls any more, then the requests in progress are answered. A second signal leaves at once.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/gateway.h"
#include "k8s/agents/authorities.h"
#include "k8s/agents/desk.h"
#include "k8s/evictions/responder.h"
#include "k8s/healing/controller.h"
#include "k8s/lease/leader.h"
#include "k8s/operator/reconciler.h"
#include "k8s/operator/served_certificate.h"
#include "k8s/operator/webhook_identity.h"
#include "k8s/webhook/policies.h"
#include "k8s/webhook/service.h"
#include "sidecar/net/event_loop.h"
#include "sidecar/net/resolver.h"
#include "sidecar/otlp/exporter.h"

namespace remora::k8s {

// The API server hears of an endpoint's end through the endpoints controller and kube-proxy.
inline constexpr int leave_ms = 5'000;
inline constexpr int drain_wait_ms_max = 10'000;
inline constexpr int version_poll_ms = 60'000;
inline constexpr size_t metrics_connections_max = 16;

// Where people's own systems hear of Incidents that no step is left for.
struct AlertTarget {
  std::string name;  // "alertmanager", "webhook"
  config::Gateway url;
  std::string path;        // of requests
  std::string token_file;  // empty: none
};

struct OperatorOptions {
  ApiServer api_server;
  std::string namespace_name;
  std::string service;
  std::string webhook_config;
  std::string secret;
  std::string image;
  std::string tls_dir;   // empty: a certificate of our own
  std::string url_host;  // beside the service's names in the certificate
  std::string instance;  // this replica's name in Events
  std::string identity;  // of this process, in the lease
  uint32_t seed = 1;     // of jitter
  int64_t certificate_life_s = 90 * day_s;
  bool heal = false;
  std::string lease;  // whose holder heals
  BudgetRule namespace_budget{};
  BudgetRule fleet_budget{};
  std::vector<AlertTarget> alerts;
  std::string alert_ca_file;
  SocketAddress listen;
  SocketAddress metrics_listen;
  std::optional<SocketAddress> link_listen;  // only with heal
  std::string link_address;                  // HOST:PORT by which sidecars call it
  otlp::ExporterSettings traces;
  bool eviction_requests = false;  // a responder of the Eviction API; only with the link
};

class Operator {
 public:
  // Binds the port for metrics. Errors: a busy port, certificates of the API server that can't be
  // read.
  static Result<std::unique_ptr<Operator>> create(OperatorOptions options);
  // Until a signal; returns the exit code.
  int run();

 private:
  explicit Operator(OperatorOptions options);
  Result<void> open_metrics();
  void make_webhook();
  void make_certificate();
  void make_reconciler();
  void make_healing();
  Result<void> make_alerts();
  void make_link();
  void show_agents();
  std::optional<config::PolicyValues> values_for(
      const std::string& namespace_name, const std::map<std::string, std::string>& labels) const;
  using AskDone = std::function<void(const Result<void>&)>;
  void ask_agent(const std::string& namespace_name, const AskAgent& ask, AskDone done);
  void make_evictions();
  void open_link();
  void lead();
  void lost_lead();
  void watch_signals();
  void serve();
  void ask_version();
  void on_version(const Result<ApiReply>& reply);
  std::string obstacle() const;
  void leave();
  void drain();

  const OperatorOptions options_;
  EventLoop loop_;
  MetricRegistry registry_;
  Counter& failures_;
  std::unique_ptr<ApiClient> client_;
  std::unique_ptr<HttpServer> metrics_server_;
  std::unique_ptr<Namespaces> namespaces_;
  std::unique_ptr<ObjectCache> policy_cache_;  // with --heal; admission and healing share it
  std::unique_ptr<Policies> policies_;         // the same
  std::unique_ptr<WebhookService> webhook_;
  std::unique_ptr<ServedCertificate> certificate_;
  std::unique_ptr<Reconciler> reconciler_;
  std::unique_ptr<Resolver> resolver_;  // where a receiver of alerts is known by a name
  std::unique_ptr<AlertSender> alerts_;
  std::unique_ptr<otlp::Exporter> traces_;  // none without a collector
  std::unique_ptr<Leader> leader_;
  std::unique_ptr<HealingController> healing_;    // of the leader only
  std::unique_ptr<IdentityLeases> leases_;        // the same
  std::unique_ptr<Catalogue> catalogue_;          // the same
  std::unique_ptr<Authorities> authorities_;      // the same
  std::unique_ptr<EvictionResponder> evictions_;  // the same
  std::unique_ptr<Desk> desk_;
  std::unique_ptr<link::Server> link_;  // once there is a certificate
  std::unique_ptr<ApiCall> version_call_;
  Subscription version_timer_;
  Subscription leave_timer_;
  std::vector<Subscription> signals_;
  bool namespaces_known_ = false;
  bool version_known_ = false;
  bool leaving_ = false;
  int exit_code_ = 0;
};

}  // namespace remora::k8s
