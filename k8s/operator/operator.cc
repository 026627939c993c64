#include "k8s/operator/operator.h"

#include <csignal>
#include <nlohmann/json.hpp>
#include <utility>

#include "config/read_file.h"
#include "k8s/inject/json_view.h"
#include "k8s/operator/certificate_files.h"
#include "k8s/operator/certificate_keeper.h"
#include "sidecar/admin/remora_metrics.h"
#include "sidecar/base/log.h"
#include "sidecar/net/named_connect.h"

namespace remora::k8s {
namespace {

constexpr size_t certificates_bytes_max = 4 << 20;

}  // namespace

Result<std::unique_ptr<Operator>> Operator::create(OperatorOptions options) {
  std::unique_ptr<Operator> made(new Operator(std::move(options)));
  Result<std::unique_ptr<ApiClient>> client =
      ApiClient::create(made->loop_, made->options_.api_server);
  if (!client) return std::unexpected(std::move(client.error()));
  made->client_ = std::move(*client);
  made->namespaces_ = std::make_unique<Namespaces>(made->loop_, *made->client_, made->failures_);
  if (made->options_.heal) {
    made->policy_cache_ = std::make_unique<ObjectCache>(
        made->loop_, *made->client_,
        CacheOptions{.path = policies_path(), .seed = made->options_.seed + 2});
    made->policies_ = std::make_unique<Policies>(*made->policy_cache_);
  }
  made->make_webhook();
  made->make_certificate();
  made->make_reconciler();
  if (made->options_.heal) {
    if (Result<void> alerts = made->make_alerts(); !alerts) {
      return std::unexpected(std::move(alerts.error()).with_context("alerts"));
    }
    made->make_healing();
  }
  if (Result<void> opened = made->open_metrics(); !opened) {
    return std::unexpected(std::move(opened.error()).with_context("metrics port"));
  }
  made->watch_signals();
  return made;
}

Operator::Operator(OperatorOptions options)
    : options_(std::move(options)),
      failures_(registry_.counter("remora_operator_api_failures_total",
                                  "Calls to the API server that failed.")) {
  add_process_metrics(registry_);
  Gauge& ready = registry_.gauge("remora_operator_ready", "1 when the webhook can be called.");
  registry_.on_collect([this, &ready] { ready.set(obstacle().empty() ? 1 : 0); });
  Gauge& requests = registry_.gauge("remora_operator_api_requests", "Sent to the API server.");
  Gauge& connections =
      registry_.gauge("remora_operator_api_connections", "Begun to the API server.");
  registry_.on_collect([this, &requests, &connections] {
    const ApiClientStats stats = client_->stats();
    requests.set(static_cast<double>(stats.requests));
    connections.set(static_cast<double>(stats.connections));
  });
}

void Operator::make_webhook() {
  WebhookOptions webhook;
  webhook.listen = options_.listen;
  webhook.inject.image = options_.image;
  webhook.inject.product_version = REMORA_VERSION;
  webhook.inject.system_namespaces = {options_.namespace_name};
  if (options_.eviction_requests) {
    webhook.inject.eviction_responder = {.name = eviction_responder, .priority = eviction_priority};
  }
  webhook.tls = [this] { return certificate_->tls(); };
  webhook.obstacle = [this] { return obstacle(); };
  if (policies_ != nullptr) {
    webhook.policy_for = [this](const std::string& namespace_name,
                                const config::Annotations& labels) {
      return policies_->find(namespace_name, labels);
    };
    webhook.avoided = [this](const std::string& namespace_name, const config::Annotations& labels) {
      return policies_->avoided(namespace_name, labels, loop_.clock().wall_now());
    };
  }
  if (options_.link_listen) {
    webhook.link = [this] {
      return LinkTarget{.address = options_.link_address,
                        .trusted_pem = certificate_->trusted_pem()};
    };
  }
  webhook_ = std::make_unique<WebhookService>(loop_, registry_, *namespaces_, std::move(webhook));
}

void Operator::make_certificate() {
  Gauge& expiry =
      registry_.gauge("remora_operator_certificate_expiry_timestamp_seconds",
                      "When the certificate that is served ends, in seconds of Unix time.");
  if (!options_.tls_dir.empty()) {
    auto files =
        std::make_unique<CertificateFiles>(loop_, options_.tls_dir, expiry, [this] { serve(); });
    files->start();
    certificate_ = std::move(files);
    return;
  }
  KeeperOptions keeper{.namespace_name = options_.namespace_name,
                       .secret = options_.secret,
                       .webhook_config = options_.webhook_config,
                       .rules = {}};
  keeper.rules.server_life_s = options_.certificate_life_s;
  keeper.rules.names = {options_.service + "." + options_.namespace_name + ".svc"};
  if (!options_.url_host.empty()) keeper.rules.names.push_back(options_.url_host);
  auto certificate = std::make_unique<CertificateKeeper>(
      loop_, *client_, std::move(keeper),
      KeeperMetrics{
          .expiry = expiry,
          .renewals = registry_.counter("remora_operator_certificate_renewals_total",
                                        "Certificates that this replica made and stored."),
          .bundle_patches = registry_.counter("remora_operator_ca_bundle_patches_total",
                                              "Times that this replica wrote the caBundle."),
          .failures = failures_},
      [this] { serve(); });
  certificate->start();
  certificate_ = std::move(certificate);
}

void Operator::make_reconciler() {
  Gauge& uninjected = registry_.gauge("remora_operator_uninjected_pods",
                                      "Pods that should have Remora and have not.");
  reconciler_ = std::make_unique<Reconciler>(
      loop_, *client_, *namespaces_, [this] { return webhook_->inject_options(); },
      options_.instance, ReconcilerMetrics{.uninjected = uninjected, .failures = failures_});
}

void Operator::make_healing() {
  LeaderOptions options{.namespace_name = options_.namespace_name,
                        .name = options_.lease,
                        .identity = options_.identity,
                        .seed = options_.seed};
  leader_ = std::make_unique<Leader>(
      loop_, *client_, std::move(options), [this] { lead(); }, [this] { lost_lead(); });
  traces_ = otlp::open_exporter(loop_, options_.traces);
  healing_ = std::make_unique<HealingController>(
      loop_, *client_, *policy_cache_,
      HealingOptions{.namespace_budget = options_.namespace_budget,
                     .fleet_budget = options_.fleet_budget,
                     .instance = options_.instance,
                     .may_write = [this] { return leader_->may_write(); },
                     .alerts = alerts_.get(),
                     .traces = traces_.get(),
                     .seed = options_.seed},
      registry_);
  Gauge& leads = registry_.gauge("remora_operator_leader", "1 when this replica heals.");
  registry_.on_collect([this, &leads] { leads.set(leader_->leads() ? 1 : 0); });
  if (options_.link_listen) make_link();
  if (options_.eviction_requests) make_evictions();
  leader_->start();
}

Result<void> Operator::make_alerts() {
  std::vector<AlertReceiver> receivers;
  std::shared_ptr<const TlsContext> tls;
  for (const AlertTarget& target : options_.alerts) {
    if (target.url.tls && !tls) {
      Result<std::string> pem = config::read_file(options_.alert_ca_file, certificates_bytes_max);
      if (!pem) return std::unexpected(std::move(pem.error()).with_context("--alert-ca"));
      auto context = make_tls_client_context(*pem);
      if (!context) return std::unexpected(std::move(context.error()).with_context("--alert-ca"));
      tls = std::move(*context);
    }
    if (!resolver_ && !is_address(target.url.host)) {
      Result<std::unique_ptr<Resolver>> resolver = Resolver::create(loop_);
      if (!resolver) return std::unexpected(std::move(resolver.error()));
      resolver_ = std::move(*resolver);
    }
    NamedServer named{
        .host = target.url.host, .port = target.url.port, .tls = target.url.tls ? tls : nullptr};
    ApiServer server;
    server.name = target.url.authority();
    server.tls = false;
    server.token_file = target.token_file;
    server.connect = [this, named] { return connect_by_name(loop_, resolver_.get(), named); };
    auto client = ApiClient::create(loop_, std::move(server));
    if (!client) return std::unexpected(std::move(client.error()));
    receivers.push_back({.name = target.name, .path = target.path, .client = std::move(*client)});
  }
  alerts_ =
      std::make_unique<AlertSender>(loop_, std::move(receivers), registry_, options_.seed + 4);
  return {};
}

void Operator::make_link() {
  desk_ = std::make_unique<Desk>(
      loop_, *client_, *healing_,
      Desk::Options{.leads = [this] { return leader_->leads(); },
                    .trusted_pem = [this] { return certificate_->trusted_pem(); },
                    .values =
                        [this](const std::string& namespace_name,
                               const std::map<std::string, std::string>& labels) {
                          return values_for(namespace_name, labels);
                        },
                    .policies_known = [this] { return policies_->synced(); },
                    .seed = options_.seed},
      registry_);
  policies_->on_change([this](const std::string& name) { desk_->on_policies_changed(name); });
  leases_ = std::make_unique<IdentityLeases>(
      loop_, *client_,
      IdentityLeaseOptions{.namespace_name = options_.namespace_name,
                           .may_write = [this] { return leader_->may_write(); },
                           .pod_exists =
                               [this](const std::string& namespace_name, const std::string& uid) {
                                 return healing_->has_pod(namespace_name, uid);
                               }},
      registry_);
  catalogue_ = std::make_unique<Catalogue>(
      loop_, *client_, *leases_,
      CatalogueOptions{
          .may_write = [this] { return leader_->may_write(); },
          .send = [this](const std::string& uid,
                         const link::v1::OperatorMessage& message) { desk_->send(uid, message); },
          .seed = options_.seed},
      registry_);
  desk_->set_catalogue(*catalogue_);
  authorities_ = std::make_unique<Authorities>(
      loop_, *client_,
      Authorities::Options{.may_write = [this] { return leader_->may_write(); },
                           .trusted_pem = [this] { return certificate_->trusted_pem(); },
                           .namespaces = [this] { return healing_->namespaces_with_sidecars(); },
                           .seed = options_.seed + 5},
      failures_);
  show_agents();
  Gauge& connected =
      registry_.gauge("remora_operator_sidecars", "Sidecars that are connected to this replica.");
  registry_.on_collect(
      [this, &connected] { connected.set(static_cast<double>(desk_->connected())); });
}

// To healing: who is there, and what can be asked of them.
void Operator::show_agents() {
  healing_->set_agents(
      {.agents =
           [this](const std::string& namespace_name) {
             return catalogue_->agents_of(namespace_name);
           },
       .fence =
           [this](const std::string& namespace_name, const std::string& uid,
                  std::function<void(const Result<std::string>&)> done) {
             catalogue_->fence(namespace_name, uid, std::move(done));
           },
       .end_fence = [this](const std::string& namespace_name, const std::string& uid,
                           bool moved) { catalogue_->end_fence(namespace_name, uid, moved); },
       .ask = [this](const std::string& namespace_name, const AskAgent& ask,
                     AskDone done) { ask_agent(namespace_name, ask, std::move(done)); }});
}

void Operator::ask_agent(const std::string& namespace_name, const AskAgent& ask, AskDone done) {
  v1alpha1::AgentRequest request;
  request.set_id(ask.id);
  request.set_action(ask.action);
  catalogue_->ask(namespace_name, ask.agent, request, std::move(done));
}

void Operator::make_evictions() {
  evictions_ = std::make_unique<EvictionResponder>(
      loop_, *client_,
      EvictionResponderOptions{
          .may_write = [this] { return leader_->may_write(); },
          .agents =
              [this](const std::string& namespace_name) {
                return catalogue_->agents_of(namespace_name);
              },
          .ask = [this](const std::string& namespace_name, const AskAgent& ask,
                        AskDone done) { ask_agent(namespace_name, ask, std::move(done)); },
          .seed = options_.seed},
      registry_);
}

// Where no policy selects them, sidecars are told so: what one had set goes.
std::optional<config::PolicyValues> Operator::values_for(
    const std::string& namespace_name, const std::map<std::string, std::string>& labels) const {
  const auto policy =
      policies_->find(namespace_name, config::Annotations(labels.begin(), labels.end()));
  if (policy == nullptr) return config::PolicyValues{};
  if (!policy->trouble.empty()) return std::nullopt;
  return config::PolicyValues{
      .policy = policy->name, .generation = policy->generation, .annotations = policy->settings};
}

void Operator::lead() {
  healing_->start();
  if (!desk_) return;
  catalogue_->start();
  authorities_->start();
  if (evictions_) evictions_->start();
}

// There is a certificate for the first time.
void Operator::open_link() {
  Result<std::unique_ptr<link::Server>> server = link::Server::start(
      loop_, {.listen = *options_.link_listen, .tls = [this] { return certificate_->link_tls(); }},
      [this](link::Call& call) { return desk_->receive(call); });
  if (!server) {
    log_error("link_port_busy", {{"error", server.error().message}});
    exit_code_ = 1;
    return loop_.stop();
  }
  link_ = std::move(*server);
  log_info("listening", {{"listener", "link"}, {"address", link_->address().to_string()}});
}

// Nothing more is written in its name; a new process begins with a new picture.
void Operator::lost_lead() {
  exit_code_ = 1;
  if (!leaving_) leave();
}

Result<void> Operator::open_metrics() {
  HttpServerOptions server;
  server.connections_max = metrics_connections_max;
  Result<std::unique_ptr<HttpServer>> started = HttpServer::start(
      loop_, options_.metrics_listen, server,
      [this](const ServerRequest& request, ServerRespond respond) {
        if (std::optional<ServerResponse> health = health_response(request, obstacle())) {
          return respond(std::move(*health));
        }
        if (request.path != "/metrics") return respond(not_found_response(request.path));
        ServerResponse response;
        response.content_type = MetricRegistry::content_type;
        response.body = registry_.render();
        if (healing_ != nullptr) response.body += healing_->policy_series();
        respond(std::move(response));
      });
  if (!started) return std::unexpected(std::move(started.error()));
  metrics_server_ = std::move(*started);
  log_info("listening",
           {{"listener", "metrics"}, {"address", metrics_server_->address().to_string()}});
  return {};
}

void Operator::watch_signals() {
  for (const int signo : {SIGTERM, SIGINT}) {
    signals_.push_back(loop_.watch_signal(signo, [this] { leave(); }));
  }
}

int Operator::run() {
  ask_version();
  if (policy_cache_ != nullptr) policy_cache_->start();
  namespaces_->start([this] {
    namespaces_known_ = true;
    reconciler_->start();
  });
  loop_.run();
  return exit_code_;
}

// There is a certificate for the first time.
void Operator::serve() {
  if (leaving_) return;
  if (const Result<void> started = webhook_->start(); !started) {
    log_error("webhook_port_busy", {{"error", started.error().message}});
    exit_code_ = 1;
    return leave();
  }
  log_info("listening", {{"listener", "webhook"}, {"address", webhook_->address().to_string()}});
  if (desk_) open_link();
}

void Operator::ask_version() {
  version_call_ = client_->call({.path = "/version"},
                                [this](const Result<ApiReply>& reply) { on_version(reply); });
}

void Operator::on_version(const Result<ApiReply>& reply) {
  std::string version;
  if (reply && reply->ok()) {
    const Json json = Json::parse(reply->body, nullptr, false);
    version = json.is_object() ? text_of(json, "gitVersion") : std::string();
  }
  if (version.empty()) {
    failures_.add();
  } else {
    version_known_ = true;
    webhook_->set_kubernetes_version(std::move(version));
  }
  const int next_ms = version_known_ ? version_poll_ms : certificate_retry_ms;
  version_timer_ = loop_.add_timer(std::chrono::milliseconds(next_ms), [this] { ask_version(); });
}

std::string Operator::obstacle() const {
  if (leaving_) return "leaving";
  if (!namespaces_known_ || !version_known_) return "the API server has not answered yet";
  if (policies_ != nullptr && !policies_->synced()) {
    return "the HealingPolicies are not known yet: " + policies_->trouble();
  }
  if (!webhook_->serves()) return "there is no certificate yet: " + certificate_->obstacle();
  return certificate_->obstacle();
}

void Operator::leave() {
  const bool serves = webhook_->serves();
  if (std::exchange(leaving_, true)) return serves ? drain() : loop_.stop();
  // Given back, so that another replica need not wait for it to run out.
  if (link_ != nullptr) link_->retire();
  if (leader_ != nullptr) {
    leader_->resign([this, serves] {
      if (!serves) loop_.stop();
    });
  }
  if (!serves && leader_ == nullptr) loop_.stop();
  if (!serves) return;
  log_info("leaving", {{"still_serving_ms", leave_ms}});
  webhook_->retire();
  leave_timer_ = loop_.add_timer(std::chrono::milliseconds(leave_ms), [this] { drain(); });
}

void Operator::drain() {
  leave_timer_ = loop_.add_timer(std::chrono::milliseconds(drain_wait_ms_max), [this] {
    log_warn("left_requests_unanswered");
    loop_.stop();
  });
  webhook_->drain([this] { loop_.stop(); });
}

}  // namespace remora::k8s
