#include "sidecar/app/app.h"

#include <algorithm>
#include <csignal>
#include <utility>

#include <unistd.h>

#include "sidecar/app/healing_trace.h"
#include "sidecar/app/next_start.h"
#include "sidecar/base/memory.h"

namespace remora {

namespace {

// By then most agents are up; those that are not lose nothing by it.
constexpr int trim_after_ms = 2'000;

}  // namespace

Result<std::unique_ptr<App>> App::create(AppConfig config, AppRole role) {
  set_log_level(log_level_of(config.shared));
  std::unique_ptr<App> app(new App(std::move(config), std::move(role)));
  for (Result<void> (App::*open)() : {&App::make_units, &App::open_capture, &App::open_outbound,
                                      &App::open_gateways, &App::open_admin}) {
    if (Result<void> opened = (app.get()->*open)(); !opened) {
      return std::unexpected(std::move(opened.error()));
    }
  }
  app->open_traces();
  app->watch_signals();
  app->watch_files();
  return app;
}

App::App(AppConfig config, AppRole role) : config_(std::move(config)), role_(std::move(role)) {
  add_process_metrics(registry_);
  if (!config_.refused.empty()) refuse_reload(config_.refused);
  registry_.on_collect([this] {
    for (const auto& unit : units_) unit->collect_metrics();
    if (gateways_) gateways_->collect_metrics();
    if (!outbound_) return;
    metrics_.outbound_connections.set(static_cast<double>(outbound_->connections()));
    metrics_.outbound_captured.set(outbound_->counters().captured);
    metrics_.outbound_proxied.set(outbound_->counters().proxied);
  });
}

App::~App() = default;

Result<void> App::make_units() {
  for (const AppAgent& agent : config_.agents) {
    Result<std::unique_ptr<AgentUnit>> unit =
        AgentUnit::create(loop_, registry_, agent, role_.make_world(loop_, agent),
                          {.on_drained = [this] { on_drained(); },
                           .on_finished = [this](int code) { on_finished(code); },
                           .on_incident =
                               [this, name = agent.name](const Incident& incident) {
                                 if (tell_incident_) tell_incident_(name, incident);
                                 export_trace(name, incident);
                               }});
    if (!unit) return std::unexpected(std::move(unit.error()));
    units_.push_back(std::move(*unit));
    started_with_.push_back(agent.config);
  }
  return {};
}

Result<void> App::open_capture() {
  std::vector<InboundCapture::Route> routes;
  for (const auto& unit : units_) {
    const std::vector<InboundCapture::Route> more = unit->capture_routes();
    routes.insert(routes.end(), more.begin(), more.end());
  }
  if (!config_.capture || routes.empty()) return {};
  Result<std::unique_ptr<InboundCapture>> capture =
      InboundCapture::open(loop_, *config_.capture, std::move(routes));
  if (!capture) return std::unexpected(std::move(capture.error()).with_context("inbound port"));
  capture_ = std::move(*capture);
  log_info("listening", {{"listener", "inbound"}, {"address", capture_->address().to_string()}});
  return {};
}

Result<void> App::open_outbound() {
  if (!config_.outbound) return {};
  Result<std::unique_ptr<OutboundServer>> outbound = OutboundServer::open(loop_, *config_.outbound);
  if (!outbound) return std::unexpected(std::move(outbound.error()).with_context("outbound port"));
  outbound_ = std::move(*outbound);
  for (const SocketAddress& address : outbound_->addresses()) {
    log_info("listening", {{"listener", "outbound"}, {"address", address.to_string()}});
  }
  return {};
}

Result<void> App::open_gateways() {
  if (!config_.outbound || config_.shared.outbound().gateways().empty()) return {};
  Result<std::unique_ptr<Gateways>> gateways = Gateways::open(
      loop_, registry_, config_.shared.outbound(), config_.outbound->socket_priority);
  if (!gateways) return std::unexpected(std::move(gateways.error()));
  gateways_ = std::move(*gateways);
  return {};
}

Result<void> App::open_admin() {
  const config::Admin& admin = config_.shared.admin();
  AdminOptions options;
  options.socket_path = admin.socket();
  if (options.socket_path.empty() && !config_.shared.snapshots().store().empty()) {
    options.socket_path = config_.shared.snapshots().store() + "/admin.sock";
  }
  if (!admin.listen().empty()) {
    Result<SocketAddress> listen = parse_socket_address(admin.listen());
    if (!listen) return std::unexpected(std::move(listen.error()).with_context("admin.listen"));
    options.listen = *listen;
  }
  if (options.socket_path.empty() && !options.listen) return {};
  Result<std::unique_ptr<AdminServer>> server = AdminServer::start(loop_, options, admin_source());
  if (!server) return std::unexpected(std::move(server.error()));
  admin_ = std::move(*server);
  if (const auto address = admin_->tcp_address()) {
    log_info("listening", {{"listener", "admin"}, {"address", address->to_string()}});
  }
  return {};
}

void App::open_traces() {
  const config::Telemetry& telemetry = config_.shared.telemetry();
  traces_ = otlp::open_exporter(
      loop_, {.endpoint = telemetry.otlp_endpoint(),
              .certificate_file = telemetry.otlp_certificate(),
              .socket_priority = config_.outbound ? config_.outbound->socket_priority : 0});
}

void App::export_trace(std::string_view agent, const Incident& incident) {
  if (traces_ == nullptr || incident.status != IncidentStatus::kClosed) return;
  traces_->send(healing_trace(incident, agent));
}

void App::watch_signals() {
  for (const int signo : {SIGTERM, SIGINT}) {
    signals_.push_back(loop_.watch_signal(signo, [this] {
      stopping_ = true;
      shutdown();
      stop_if_over();
    }));
  }
  signals_.push_back(loop_.watch_signal(SIGHUP, [this] { reload(); }));
}

void App::watch_files() {
  if (role_.watched_files.empty()) return;
  file_watch_ =
      std::make_unique<FileWatch>(loop_, role_.watched_files, [this] { reload_if_changed(); });
}

int App::run() {
  for (const auto& unit : units_) unit->start();
  trim_ =
      loop_.add_timer(std::chrono::milliseconds(trim_after_ms), [] { release_startup_memory(); });
  loop_.run();
  return exit_code_;
}

void App::when_leaving(Duration wait, std::move_only_function<void(bool leaving)> done) {
  if (leaving_) return done(true);
  const auto waiter = leave_waiters_.insert(leave_waiters_.end(), {std::move(done), {}});
  waiter->limit = loop_.add_timer(wait, [this, waiter] {
    // Out of the list first: the callback may end the app's last connection.
    std::list<LeaveWaiter> over;
    over.splice(over.end(), leave_waiters_, waiter);
    over.front().done(false);
  });
}

void App::shutdown() {
  const auto end_all = [this] {
    const bool hasten = std::exchange(draining_, true);
    hasten ? end_refusing() : refuse_for_a_while();
    if (capture_) capture_->stop();
    for (const auto& unit : units_) unit->shutdown();
  };
  const bool again = std::exchange(leaving_, true);
  for (LeaveWaiter& waiter : std::exchange(leave_waiters_, {})) waiter.done(true);
  if (again || role_.leave_delay <= Duration{0}) {
    leave_timer_.cancel();
    return end_all();
  }
  for (const auto& unit : units_) unit->announce_end();
  log_info("leaving", {{"still_serving_s", to_seconds(role_.leave_delay)}});
  leave_timer_ = loop_.add_timer(role_.leave_delay, end_all);
}

void App::leave(bool pod_ends) {
  if (leaving_) return;
  pod_ends_ = pod_ends;
  for (const auto& unit : units_) unit->leave_stopping_to_others();
  shutdown();
}

// A Service without another pod sends its callers here until the kubelet has seen that this one is
// not Ready and each node has heard of it. Were the pod's network gone before, what they send would
// be lost without a word, and they would wait for as long as their kernel tries; while it is there
// they are refused at once.
void App::refuse_for_a_while() {
  const MonotonicTime since = loop_.now() - std::chrono::milliseconds(newcomer_ms_max);
  const bool callers_come =
      std::ranges::any_of(units_, [&](const auto& unit) { return unit->last_caller_at() > since; });
  if (!pod_ends_ || !callers_come) return;
  refusing_ = true;
  log_info("refusing_callers",
           {{"limit_s", to_seconds(std::chrono::milliseconds(refusing_ms_max))}});
  refusing_limit_ =
      loop_.add_timer(std::chrono::milliseconds(refusing_ms_max), [this] { end_refusing(); });
}

void App::note_told_not_ready() {
  if (!refusing_ || unrouted_timer_) return;
  unrouted_timer_ =
      loop_.add_timer(std::chrono::milliseconds(unrouted_ms), [this] { end_refusing(); });
}

void App::end_refusing() {
  refusing_limit_.cancel();
  unrouted_timer_.cancel();
  refusing_ = false;
  finish_drain_waiters();
}

void App::when_drained(Task done) {
  if (is_drained()) return done();
  drain_waiters_.push_back(std::move(done));
}

void App::on_drained() {
  ++drained_;
  finish_drain_waiters();
}

void App::finish_drain_waiters() {
  if (!is_drained()) return;
  for (Task& done : std::exchange(drain_waiters_, {})) done();
}

void App::on_finished(int exit_code) {
  if (exit_code_ == 0) exit_code_ = exit_code;
  ++finished_;
  stop_if_over();
}

void App::stop_if_over() {
  if (finished_ == units_.size() && (stopping_ || !role_.stays)) loop_.stop();
}

Result<void> App::check(const AppConfig& fresh) const {
  bool same = fresh.agents.size() == units_.size();
  for (size_t i = 0; same && i < units_.size(); ++i) {
    same = fresh.agents[i].name == units_[i]->name();
    if (!same) break;
    if (Result<void> usable = units_[i]->check(fresh.agents[i].config); !usable) return usable;
  }
  if (same) return {};
  return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig,
                    "the agents are not those that Remora was started with; restart it");
}

void App::reload() {
  Result<AppConfig> fresh = role_.reload();
  Result<void> usable = fresh ? check(*fresh) : std::unexpected(fresh.error());
  if (!usable) return refuse_reload(usable.error().message);
  take(*std::move(fresh));
}

// The kubelet writes the annotations anew whenever anybody changes one; most are not ours.
void App::reload_if_changed() {
  Result<AppConfig> fresh = role_.reload();
  Result<void> usable = fresh ? check(*fresh) : std::unexpected(fresh.error());
  if (!usable) return refuse_reload(usable.error().message);
  bool same = reloads_.refused.empty();
  for (size_t i = 0; same && i < units_.size(); ++i) {
    same =
        fresh->agents[i].config.SerializeAsString() == config_.agents[i].config.SerializeAsString();
  }
  if (same) return log_debug("nothing_to_reload");
  take(*std::move(fresh));
}

// The last good configuration stays in force when the new one is not.
void App::refuse_reload(const std::string& why) {
  reloads_.refused = why;
  reloads_.refused_at_unix_ns = to_unix_ns(loop_.clock().wall_now());
  metrics_.config_reloads_bad.add();
  metrics_.config_last_reload_good.set(0);
  log_error("reload_refused", {{"reason", why}, {"in_force", "the last good one"}});
}

void App::take(AppConfig fresh) {
  std::string waiting;
  for (size_t i = 0; i < units_.size(); ++i) {
    for (const std::string& key : keys_for_next_start(started_with_[i], fresh.agents[i].config)) {
      if (waiting.find(key) == waiting.npos)
        waiting.append(waiting.empty() ? "" : ", ").append(key);
    }
  }
  const bool other_traces = fresh.shared.telemetry().SerializeAsString() !=
                            config_.shared.telemetry().SerializeAsString();
  config_ = std::move(fresh);
  if (other_traces) open_traces();
  for (size_t i = 0; i < units_.size(); ++i) units_[i]->reload(config_.agents[i].config);
  set_log_level(log_level_of(config_.shared));
  role_.leave_delay = config::to_duration(config_.shared.inbound().timeouts().drain_delay());
  reloads_.refused.clear();
  reloads_.taken_at_unix_ns = to_unix_ns(loop_.clock().wall_now());
  reloads_.for_next_start = waiting;
  metrics_.config_reloads_good.add();
  metrics_.config_last_reload_good.set(1);
  log_info("reloaded");
  if (!waiting.empty()) {
    log_warn("reloaded_in_part", {{"keys", waiting}, {"in_force_from", "the next start"}});
  }
}

}  // namespace remora
