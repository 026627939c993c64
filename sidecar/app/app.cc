#include "sidecar/app/app.h"

#include <cerrno>
#include <csignal>
#include <utility>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sidecar/base/memory.h"

namespace remora {

namespace {

// By then most agents are up; those that are not lose nothing by it.
constexpr int trim_after_ms = 2'000;

// Makes it where it is missing; it must be a directory that we may write.
Result<void> ensure_directory(const std::string& path, const char* option) {
  struct stat info{};
  int error = 0;
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    error = errno;
  } else if (::stat(path.c_str(), &info) != 0) {
    error = errno;
  } else if (!S_ISDIR(info.st_mode)) {
    error = ENOTDIR;
  } else if (::access(path.c_str(), W_OK | X_OK) != 0) {
    error = errno;
  }
  if (error == 0) return {};
  Error failed = error_from_errno(error, std::string(option) + " " + path, ErrorSource::kConfig);
  failed.message += error == ENOENT ? "; make the directory above it first"
                                    : "; choose a directory that can be written";
  return std::unexpected(std::move(failed));
}

}  // namespace

Result<std::unique_ptr<App>> App::create(config::IsolatedLoad config, Reload reload) {
  set_log_level(log_level_of(config.config));
  std::unique_ptr<App> app(new App(std::move(config), std::move(reload)));
  for (Result<void> (App::*open)() :
       {&App::open_store, &App::open_proxy, &App::make_health, &App::open_admin}) {
    if (Result<void> opened = (app.get()->*open)(); !opened) {
      return std::unexpected(std::move(opened.error()));
    }
  }
  app->make_supervisor();
  app->watch_signals();
  return app;
}

App::App(config::IsolatedLoad config, Reload reload)
    : loaded_(std::move(config)),
      reload_(std::move(reload)),
      metrics_(registry_, REMORA_VERSION, fault_kind_names()) {
  add_process_metrics(registry_);
  registry_.on_collect([this] { collect_metrics(); });
}

App::~App() = default;

Result<void> App::open_store() {
  const std::string& store = config_.snapshots().store();
  const std::string& state_dir = config_.agent().state_dir();
  if (!state_dir.empty()) {
    if (Result<void> usable = ensure_directory(state_dir, "--state"); !usable) return usable;
  }
  const int64_t now = to_unix_ns(loop_.clock().wall_now());
  if (store.empty()) {
    incidents_ = std::make_unique<MemoryIncidentLog>(loop_);
    return {};
  }
  if (Result<void> usable = ensure_directory(store, "--store"); !usable) return usable;
  Result<std::unique_ptr<DiskIncidentLog>> log = DiskIncidentLog::open(loop_, store, now);
  if (!log) return std::unexpected(std::move(log.error()));
  incidents_ = std::move(*log);
  if (state_dir.empty()) return {};
  Result<std::unique_ptr<Snapshots>> snapshots = Snapshots::open(loop_, config_, metrics_);
  if (!snapshots) return std::unexpected(std::move(snapshots.error()));
  snapshots_ = std::move(*snapshots);
  return {};
}

Result<void> App::open_admin() {
  AdminOptions options;
  options.socket_path = config_.admin().socket();
  if (options.socket_path.empty() && !config_.snapshots().store().empty()) {
    options.socket_path = config_.snapshots().store() + "/admin.sock";
  }
  if (!config_.admin().listen().empty()) {
    Result<SocketAddress> listen = parse_socket_address(config_.admin().listen());
    if (!listen) return std::unexpected(std::move(listen.error()).with_context("admin.listen"));
    options.listen = *listen;
  }
  if (options.socket_path.empty() && !options.listen) return {};
  Result<std::unique_ptr<AdminServer>> admin = AdminServer::start(loop_, options, admin_source());
  if (!admin) return std::unexpected(std::move(admin.error()));
  admin_ = std::move(*admin);
  if (const auto address = admin_->tcp_address()) {
    log_info("listening", {{"listener", "admin"}, {"address", address->to_string()}});
  }
  return {};
}

Result<void> App::open_proxy() {
  if (config_.agent().app_port() == 0) return {};
  Result<ProxyOptions> options = proxy_options(config_);
  if (!options) return std::unexpected(std::move(options.error()));
  Result<std::unique_ptr<ProxyServer>> proxy = ProxyServer::start(
      loop_, gate_, std::move(*options), make_inbound_filters(filter_options(config_), *this));
  if (!proxy) return std::unexpected(std::move(proxy.error()));
  proxy_ = std::move(*proxy);
  log_info("listening", {{"listener", "inbound"}, {"address", proxy_->address().to_string()}});
  return {};
}

Result<void> App::make_health() {
  Result<ProbeSet> probes = probe_set(config_);
  if (!probes) return std::unexpected(std::move(probes.error()));
  prober_ = std::make_unique<Prober>(
      loop_, std::move(*probes), [this](const ProbeResult& result) { on_probe_result(result); });
  sampler_ = std::make_unique<ProgressSampler>(
      loop_, progress_options(config_), [this] { return in_flight(); },
      [this](const Observation& observation) { supervisor_->observe(observation); });
  return {};
}

void App::make_supervisor() {
  child_ = std::make_unique<ChildAgent>(loop_, child_options(config_));
  const auto& alert = config_.healing().alert().exec();
  alerter_ =
      std::make_unique<ExecAlerter>(loop_, std::vector<std::string>(alert.begin(), alert.end()));
  SupervisorHooks hooks;
  hooks.on_incident = [this](const Incident& incident) { on_incident(incident); };
  if (snapshots_) {
    hooks.final_snapshot = [this](Task done) {
      snapshots_->take("final",
                       [done = std::move(done)](const Result<std::string>&) mutable { done(); });
    };
  }
  hooks.in_flight_requests = [this] { return in_flight_texts(); };
  hooks.on_agent_started = [this](const AgentInstance& instance) { on_agent_started(instance); };
  hooks.on_agent_stopped = [this] { on_agent_stopped(); };
  hooks.on_finished = [this](int exit_code) {
    exit_code_ = exit_code;
    loop_.stop();
  };
  supervisor_ = std::make_unique<Supervisor>(SupervisorSeams{.loop = loop_,
                                                             .orchestrator = *child_,
                                                             .state_keeper = snapshots_.get(),
                                                             .incidents = *incidents_,
                                                             .alerter = *alerter_,
                                                             .gate = *this,
                                                             .drain = *this},
                                             supervisor_options(config_), std::move(hooks));
}

void App::watch_signals() {
  for (const int signo : {SIGTERM, SIGINT}) {
    signals_.push_back(loop_.watch_signal(signo, [this] { supervisor_->shutdown(); }));
  }
  signals_.push_back(loop_.watch_signal(SIGHUP, [this] { reload(); }));
}

int App::run() {
  supervisor_->start();
  trim_ =
      loop_.add_timer(std::chrono::milliseconds(trim_after_ms), [] { release_startup_memory(); });
  loop_.run();
  return exit_code_;
}

// The last good configuration stays in force when the new one is not.
void App::reload() {
  Result<config::IsolatedLoad> fresh = reload_();
  const auto refuse = [this](const Error& error) {
    metrics_.config_reloads_bad.add();
    log_error("reload_refused", {{"reason", error.message}, {"in_force", "the last good one"}});
  };
  if (!fresh) return refuse(fresh.error());
  Result<ProbeSet> probes = probe_set(fresh->config);
  if (!probes) return refuse(probes.error());
  if (proxy_) {
    const Result<ProxyOptions> proxy = proxy_options(fresh->config);
    if (!proxy) return refuse(proxy.error());
    proxy_->update(*proxy, make_inbound_filters(filter_options(fresh->config), *this));
  }
  loaded_ = std::move(*fresh);
  prober_->set_probes(std::move(*probes));
  sampler_->set_options(progress_options(config_));
  child_->set_options(child_options(config_));
  if (snapshots_) snapshots_->set_interval(config::to_duration(config_.snapshots().interval()));
  const SupervisorOptions options = supervisor_options(config_);
  supervisor_->set_policy(options.policy);
  supervisor_->set_detection(options.detection);
  set_log_level(log_level_of(config_));
  metrics_.config_reloads_good.add();
  log_info("reloaded");
}

void App::on_agent_started(const AgentInstance& instance) {
  agent_ = instance;
  agent_started_at_ = loop_.now();
  if (snapshots_) snapshots_->set_agent(instance.pid);
  prober_->start();
  sampler_->start(instance.generation, instance.pid);
  // Without probes and without a port there is nothing to wait for.
  if (prober_->ready()) supervisor_->on_ready();
}

void App::on_agent_stopped() {
  agent_.pid = 0;
  if (snapshots_) snapshots_->set_agent(0);
  prober_->stop();
  sampler_->stop();
}

void App::on_probe_result(const ProbeResult& result) {
  supervisor_->observe({.at = loop_.now(), .what = result});
  sampler_->set_suspicious(!prober_->live());
  if (prober_->ready()) {
    supervisor_->on_ready();
  } else if (result.outcome == ProbeOutcome::kFailure) {
    supervisor_->on_unready(result.reason);
  }
}

InFlight App::in_flight() const {
  InFlight facts;
  if (!proxy_) return facts;
  const std::vector<InFlightRequest> requests = proxy_->in_agent();
  facts.count = requests.size();
  if (!requests.empty()) {
    facts.oldest_age = requests.front().age;
    facts.oldest_request = requests.front().method + " " + requests.front().path;
  }
  facts.requests_started = proxy_->counters().requests;
  facts.bytes_from_agent = proxy_->counters().bytes_from_agent;
  facts.rejected = proxy_->counters().rejected_overload;
  facts.in_flight_max = static_cast<uint64_t>(config_.inbound().limits().requests_in_flight_max());
  return facts;
}

std::vector<std::string> App::in_flight_texts() const {
  std::vector<std::string> texts;
  if (!proxy_) return texts;
  for (const InFlightRequest& request : proxy_->in_agent_or_just_lost()) {
    texts.push_back(
        fmt::format("{} {}, {:.1f} s", request.method, request.path, to_seconds(request.age)));
  }
  return texts;
}

void App::agent_up(uint64_t generation) {
  log_info("agent_up", {{"generation", generation}});
  gate_.open();
  set_serving(true);
}

void App::agent_down(std::string_view reason) {
  log_info("agent_down", {{"reason", reason}});
  gate_.close();
  set_serving(false);
}

void App::begin_drain(Duration wait_max, Task done) {
  if (proxy_) {
    proxy_->drain(wait_max, std::move(done));
  } else {
    loop_.post(std::move(done));
  }
}

void App::on_request_finished(const ExchangeInfo& info) {
  inbound_metrics_.on_request_finished(info.status, info.ended_at - info.began_at);
}

}  // namespace remora
