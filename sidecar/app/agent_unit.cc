#include "sidecar/app/agent_unit.h"

#include <cerrno>
#include <utility>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace remora {
namespace {

config::Config with_port(config::Config config, const AgentPort& port) {
  config.mutable_agent()->set_app_port(port.port);
  if (!port.protocol.empty()) config.mutable_agent()->set_app_protocol(port.protocol);
  return config;
}

// Makes it where it is missing; it must be a directory that we may write. 0, or what is wrong.
int make_directory(const std::string& path) {
  struct stat info{};
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return errno;
  if (::stat(path.c_str(), &info) != 0) return errno;
  if (!S_ISDIR(info.st_mode)) return ENOTDIR;
  return ::access(path.c_str(), W_OK | X_OK) == 0 ? 0 : errno;
}

// option: where it was set, for the error.
Result<void> ensure_directory(const std::string& path, const char* option) {
  const int error = make_directory(path);
  if (error == 0) return {};
  Error failed = error_from_errno(error, std::string(option) + " " + path, ErrorSource::kConfig);
  failed.message += error == ENOENT ? "; make the directory above it first"
                                    : "; choose a directory that can be written";
  return std::unexpected(std::move(failed));
}

}  // namespace

Result<std::unique_ptr<AgentUnit>> AgentUnit::create(Loop& loop, MetricRegistry& registry,
                                                     AppAgent agent, AgentWorld world,
                                                     AgentUnitHooks hooks) {
  std::unique_ptr<AgentUnit> unit(
      new AgentUnit(loop, registry, std::move(agent), std::move(world), std::move(hooks)));
  for (Result<void> (AgentUnit::*open)() :
       {&AgentUnit::open_store, &AgentUnit::open_proxies, &AgentUnit::make_health}) {
    if (Result<void> opened = (unit.get()->*open)(); !opened) {
      return std::unexpected(std::move(opened.error()));
    }
  }
  unit->make_supervisor();
  return unit;
}

AgentUnit::AgentUnit(Loop& loop, MetricRegistry& registry, AppAgent agent, AgentWorld world,
                     AgentUnitHooks hooks)
    : loop_(loop),
      name_(std::move(agent.name)),
      config_(std::move(agent.config)),
      more_ports_(std::move(agent.more_ports)),
      accepts_(agent.accepts),
      world_(std::move(world)),
      clean_end_is_final_(agent.clean_end_is_final),
      ends_when_giving_up_(agent.ends_when_giving_up),
      hooks_(std::move(hooks)),
      gate_(loop),
      metrics_(registry, name_, fault_kind_names()),
      inbound_metrics_(registry, name_, "inbound") {}

AgentUnit::~AgentUnit() = default;

Result<void> AgentUnit::open_store() {
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
  snapshots_->on_taken_over(
      [this](const std::string& why) { supervisor_->note_store_taken_over(why); });
  return {};
}

Result<void> AgentUnit::open_proxies() {
  if (config_.agent().app_port() == 0) return {};
  for (const AgentPort& port : ports()) {
    if (Result<void> opened = open_proxy(port); !opened) return opened;
  }
  return {};
}

std::vector<AgentPort> AgentUnit::ports() const {
  std::vector<AgentPort> all = {{static_cast<uint16_t>(config_.agent().app_port()), {}}};
  all.insert(all.end(), more_ports_.begin(), more_ports_.end());
  return all;
}

std::vector<InboundCapture::Route> AgentUnit::capture_routes() const {
  std::vector<InboundCapture::Route> routes;
  const std::vector<AgentPort> in_order = ports();
  for (size_t i = 0; i < proxies_.size(); ++i) {
    routes.push_back({in_order[i].port, proxies_[i].get()});
  }
  return routes;
}

Result<void> AgentUnit::open_proxy(const AgentPort& port) {
  Result<ProxyOptions> options = proxy_options(with_port(config_, port));
  if (!options) return std::unexpected(std::move(options.error()));
  options->accepts = accepts_;
  if (port.inbound_port != 0) {
    Result<SocketAddress> listen = parse_socket_address(":" + std::to_string(port.inbound_port));
    if (!listen) return std::unexpected(std::move(listen.error()));
    options->listen = *listen;
  }
  Result<std::unique_ptr<ProxyServer>> proxy = ProxyServer::start(
      loop_, gate_, std::move(*options), make_inbound_filters(filter_options(config_), *this));
  if (!proxy) return std::unexpected(std::move(proxy.error()));
  proxies_.push_back(std::move(*proxy));
  if (accepts_) {
    log_info("listening",
             {{"listener", "inbound"}, {"address", proxies_.back()->address().to_string()}});
  }
  return {};
}

Result<void> AgentUnit::make_health() {
  Result<ProbeSet> probes = probe_set(config_);
  if (!probes) return std::unexpected(std::move(probes.error()));
  prober_ = std::make_unique<Prober>(
      loop_, std::move(*probes), [this](const ProbeResult& result) { on_probe_result(result); });
  sampler_ = std::make_unique<ProgressSampler>(
      loop_, progress_options(config_), [this] { return in_flight(); },
      [this](const Observation& observation) { supervisor_->observe(observation); });
  return {};
}

void AgentUnit::make_supervisor() {
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
  hooks.on_drained = [this] { hooks_.on_drained(); };
  hooks.on_finished = [this](int exit_code) { hooks_.on_finished(exit_code); };
  SupervisorOptions options = supervisor_options(config_);
  options.clean_end_is_final = clean_end_is_final_;
  options.ends_when_giving_up = ends_when_giving_up_;
  supervisor_ = std::make_unique<Supervisor>(SupervisorSeams{.loop = loop_,
                                                             .orchestrator = *world_.orchestrator,
                                                             .state_keeper = snapshots_.get(),
                                                             .incidents = *incidents_,
                                                             .alerter = *alerter_,
                                                             .gate = *this,
                                                             .drain = *this},
                                             std::move(options), std::move(hooks));
}

Result<void> AgentUnit::check(const config::Config& config) const {
  if (const Result<ProbeSet> probes = probe_set(config); !probes) {
    return std::unexpected(probes.error());
  }
  if (proxies_.empty()) return {};
  if (const Result<ProxyOptions> proxy = proxy_options(config); !proxy) {
    return std::unexpected(proxy.error());
  }
  return {};
}

void AgentUnit::reload(const config::Config& config) {
  config_ = config;
  for (const auto& proxy : proxies_) {
    proxy->update(*proxy_options(config_), make_inbound_filters(filter_options(config_), *this));
  }
  prober_->set_probes(*probe_set(config_));
  sampler_->set_options(progress_options(config_));
  world_.reload(config_);
  if (snapshots_) snapshots_->set_interval(config::to_duration(config_.snapshots().interval()));
  const SupervisorOptions options = supervisor_options(config_);
  supervisor_->set_policy(options.policy);
  supervisor_->set_detection(options.detection);
  supervisor_->set_end(options.stop_grace, options.drain_wait);
}

void AgentUnit::on_agent_started(const AgentInstance& instance) {
  agent_ = instance;
  agent_started_at_ = loop_.now();
  if (snapshots_) snapshots_->set_agent(instance.pid);
  prober_->start();
  sampler_->start(instance.generation, instance.pid);
  // Without probes and without a port there is nothing to wait for.
  if (prober_->ready()) supervisor_->on_ready();
}

void AgentUnit::on_agent_stopped() {
  agent_.pid = 0;
  if (snapshots_) snapshots_->set_agent(0);
  prober_->stop();
  sampler_->stop();
}

void AgentUnit::on_probe_result(const ProbeResult& result) {
  supervisor_->observe({.at = loop_.now(), .what = result});
  sampler_->set_suspicious(!prober_->live());
  if (prober_->ready()) {
    supervisor_->on_ready();
  } else if (result.outcome == ProbeOutcome::kFailure) {
    supervisor_->on_unready(result.reason);
  }
}

InFlight AgentUnit::in_flight() const {
  InFlight facts;
  for (const auto& proxy : proxies_) {
    const std::vector<InFlightRequest> requests = proxy->in_agent();
    facts.count += requests.size();
    if (!requests.empty() && requests.front().age >= facts.oldest_age) {
      facts.oldest_age = requests.front().age;
      facts.oldest_request = requests.front().method + " " + requests.front().path;
    }
  }
  const ProxyCounters counted = counters();
  facts.requests_started = counted.requests;
  facts.bytes_from_agent = counted.bytes_from_agent;
  facts.rejected = counted.rejected_overload;
  facts.in_flight_max = static_cast<uint64_t>(config_.inbound().limits().requests_in_flight_max());
  return facts;
}

ProxyCounters AgentUnit::counters() const {
  ProxyCounters sum;
  for (const auto& proxy : proxies_) {
    const ProxyCounters& one = proxy->counters();
    sum.bytes_to_agent += one.bytes_to_agent;
    sum.bytes_from_agent += one.bytes_from_agent;
    sum.requests += one.requests;
    sum.replays += one.replays;
    sum.rejected_overload += one.rejected_overload;
    sum.connect_failures += one.connect_failures;
  }
  return sum;
}

std::vector<std::string> AgentUnit::in_flight_texts() const {
  std::vector<std::string> texts;
  for (const auto& proxy : proxies_) {
    for (const InFlightRequest& request : proxy->in_agent_or_just_lost()) {
      texts.push_back(
          fmt::format("{} {}, {:.1f} s", request.method, request.path, to_seconds(request.age)));
      if (!request.traceparent.empty()) texts.back() += ", traceparent " + request.traceparent;
    }
  }
  return texts;
}

void AgentUnit::agent_up(uint64_t generation) {
  log_info("agent_up", {{"agent", name_}, {"generation", generation}});
  gate_.open();
  set_serving(true);
}

void AgentUnit::agent_down(std::string_view reason) {
  log_info("agent_down", {{"agent", name_}, {"reason", reason}});
  gate_.close();
  set_serving(false);
}

void AgentUnit::set_serving(bool serving) {
  if (snapshots_) snapshots_->set_serving(serving);
}

std::optional<MonotonicTime> AgentUnit::last_caller_at() const {
  std::optional<MonotonicTime> last;
  for (const auto& proxy : proxies_) last = std::max(last, proxy->last_accepted_at());
  return last;
}

void AgentUnit::announce_end() {
  for (const auto& proxy : proxies_) proxy->announce_end();
}

void AgentUnit::begin_drain(Duration wait_max, Task done) {
  if (proxies_.empty()) return loop_.post(std::move(done));
  struct Waiting {
    size_t left;
    Task done;
  };
  auto waiting = std::make_shared<Waiting>(proxies_.size(), std::move(done));
  for (const auto& proxy : proxies_) {
    proxy->drain(wait_max, [waiting] {
      if (--waiting->left == 0) waiting->done();
    });
  }
}

void AgentUnit::on_request_finished(const ExchangeInfo& info) {
  inbound_metrics_.on_request_finished(info.status, info.ended_at - info.began_at);
}

}  // namespace remora
