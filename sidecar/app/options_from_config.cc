#include "sidecar/app/options_from_config.h"

#include <filesystem>
#include <limits>
#include <optional>
#include <random>

#include "config/gateway.h"

namespace remora {
namespace {

using config::to_duration;

// How long a caller waits at most after the agent has opened its port. A look costs 0.1 ms
// (measured), so this takes 2 % of a CPU, and only while the agent starts.
constexpr std::chrono::milliseconds kPortProbePeriod{5};

Result<SocketAddress> agent_address(const config::Config& config, const std::string& host,
                                    int port) {
  return make_socket_address(host.empty() ? config.agent().app_host() : host,
                             static_cast<uint16_t>(port == 0 ? config.agent().app_port() : port));
}

Result<ProbeAction> probe_action(const config::Config& config, const config::Probe& probe) {
  if (probe.has_http_get()) {
    const config::HttpGetAction& get = probe.http_get();
    Result<SocketAddress> address = agent_address(config, get.host(), get.port());
    if (!address) return std::unexpected(std::move(address.error()));
    HttpProbe action{.address = *address,
                     .path = get.path(),
                     .host = {},
                     .headers = {},
                     .tls = get.scheme() == "HTTPS"};
    for (const config::HttpHeader& header : get.http_headers()) {
      action.headers.emplace_back(header.name(), header.value());
    }
    return action;
  }
  if (probe.has_exec()) {
    ExecProbe action;
    action.command.assign(probe.exec().command().begin(), probe.exec().command().end());
    action.working_dir = config.agent().working_dir();
    action.environment = child_options(config).environment;
    return action;
  }
  const bool grpc = probe.has_grpc();
  Result<SocketAddress> address =
      agent_address(config, grpc ? std::string() : probe.tcp_socket().host(),
                    grpc ? probe.grpc().port() : probe.tcp_socket().port());
  if (!address) return std::unexpected(std::move(address.error()));
  if (grpc) return GrpcProbe{.address = *address, .service = probe.grpc().service()};
  return TcpProbe{.address = *address};
}

Result<std::optional<ProbeSpec>> probe_spec(const config::Config& config, bool present,
                                            const config::Probe& probe) {
  if (!present) return std::optional<ProbeSpec>();
  Result<ProbeAction> action = probe_action(config, probe);
  if (!action) return std::unexpected(std::move(action.error()));
  return ProbeSpec{.action = std::move(*action),
                   .initial_delay = std::chrono::seconds(probe.initial_delay_seconds()),
                   .period = std::chrono::seconds(probe.period_seconds()),
                   .timeout = std::chrono::seconds(probe.timeout_seconds()),
                   .success_threshold = static_cast<uint32_t>(probe.success_threshold()),
                   .failure_threshold = static_cast<uint32_t>(probe.failure_threshold())};
}

std::optional<FaultKind> fault_kind_from_name(std::string_view name) {
  for (size_t i = 0; i < kFaultKindCount; ++i) {
    if (fault_kind_name(static_cast<FaultKind>(i)) == name) return static_cast<FaultKind>(i);
  }
  return std::nullopt;
}

ListenerProtocol listener_protocol(const std::string& name) {
  if (name == "http1") return ListenerProtocol::kHttp1;
  if (name == "http2") return ListenerProtocol::kHttp2;
  if (name == "tcp") return ListenerProtocol::kTcp;
  return ListenerProtocol::kAuto;
}

AppProtocol app_protocol(const std::string& name) {
  if (name == "http1") return AppProtocol::kHttp1;
  if (name == "http2") return AppProtocol::kHttp2;
  return AppProtocol::kAuto;
}

}  // namespace

Result<ProxyOptions> proxy_options(const config::Config& config) {
  const config::Inbound& inbound = config.inbound();
  ProxyOptions options;
  options.name = "inbound";
  Result<SocketAddress> listen = parse_socket_address(inbound.listen());
  if (!listen) return std::unexpected(std::move(listen.error()).with_context("inbound.listen"));
  options.listen = *listen;
  // An agent that speaks opaque TCP can't be spoken to in HTTP.
  options.protocol = config.agent().app_protocol() == "tcp" ? ListenerProtocol::kTcp
                                                            : listener_protocol(inbound.protocol());
  options.connections_max = static_cast<size_t>(inbound.limits().connections_max());
  options.timeouts = {.idle = to_duration(inbound.timeouts().idle()),
                      .headers = to_duration(inbound.timeouts().headers()),
                      .detect = to_duration(inbound.timeouts().detect()),
                      .connect = to_duration(inbound.timeouts().connect())};
  options.downstream_limits.header_bytes_max =
      static_cast<size_t>(inbound.limits().request_header_bytes_max());
  Result<SocketAddress> upstream = agent_address(config, {}, 0);
  if (!upstream) return std::unexpected(std::move(upstream.error()).with_context("agent.appHost"));
  options.upstream.address = *upstream;
  options.upstream.connect_timeout = options.timeouts.connect;
  options.upstream.connections_max =
      static_cast<size_t>(inbound.limits().upstream_connections_max());
  options.router.app_protocol = app_protocol(config.agent().app_protocol());
  for (const config::Route& route : inbound.idempotent()) {
    options.router.idempotent.push_back({route.method(), route.path_prefix()});
  }
  options.exchange.hold_wait = to_duration(inbound.hold().wait());
  options.exchange.replay_body_bytes_max =
      static_cast<size_t>(inbound.hold().replay_body_bytes_max());
  options.exchange.replays_max = static_cast<uint32_t>(inbound.hold().replays_max());
  return options;
}

InboundFilterOptions filter_options(const config::Config& config) {
  const config::Inbound& inbound = config.inbound();
  InboundFilterOptions options;
  options.deadline.request_timeout = to_duration(inbound.timeouts().request());
  options.limits.request_body_bytes_max =
      static_cast<uint64_t>(inbound.limits().request_body_bytes_max());
  options.limits.requests_in_flight_max =
      static_cast<uint32_t>(inbound.limits().requests_in_flight_max());
  options.access_log = inbound.access_log().enabled();
  return options;
}

ChildAgentOptions child_options(const config::Config& config) {
  const config::Agent& agent = config.agent();
  ChildAgentOptions options;
  options.command.assign(agent.command().begin(), agent.command().end());
  for (const auto& [name, value] : agent.env()) options.environment.push_back(name + "=" + value);
  if (!agent.state_dir().empty()) {
    options.environment.push_back("REMORA_STATE_DIR=" +
                                  // The agent may be started elsewhere.
                                  std::filesystem::absolute(agent.state_dir()).string());
  }
  for (const auto& [name, value] : config::gateway_environment(config.outbound())) {
    options.environment.push_back(name + "=" + value);
  }
  options.working_dir = agent.working_dir();
  options.log_tail_bytes = static_cast<size_t>(agent.log_tail_bytes());
  return options;
}

SupervisorOptions supervisor_options(const config::Config& config) {
  const config::Healing& healing = config.healing();
  SupervisorOptions options;
  HealingPolicy& policy = options.policy;
  for (const config::Ladder& ladder : healing.ladders()) {
    const auto kind = fault_kind_from_name(ladder.fault());
    if (!kind) continue;  // refused by the loader
    Ladder steps;
    for (const std::string& name : ladder.steps()) {
      if (const auto step = heal_step_from_name(name)) steps.push_back(*step);
    }
    policy.ladders[static_cast<size_t>(*kind)] = std::move(steps);
  }
  policy.backoff_base = to_duration(healing.backoff().base());
  policy.backoff_step = to_duration(healing.backoff().step());
  policy.backoff_max = to_duration(healing.backoff().max());
  policy.restarts_max = static_cast<uint32_t>(healing.budget().restarts_max());
  policy.restarts_window = to_duration(healing.budget().window());
  policy.step_timeout = to_duration(healing.step_timeout());
  policy.stable_after = to_duration(healing.stable_after());
  policy.paused = healing.paused();
  policy.can_restore = !config.snapshots().store().empty() && !config.agent().state_dir().empty();
  options.detection.hang_window = to_duration(config.detection().hang_window());
  options.detection.deadlock = config.detection().deadlock();
  options.stop_grace = to_duration(config.agent().termination_grace_period());
  options.drain_wait = to_duration(config.inbound().timeouts().drain());
  options.random_seed = std::random_device{}();
  return options;
}

ProgressOptions progress_options(const config::Config& config) {
  ProgressOptions options;
  options.sample_interval = to_duration(config.detection().sample_interval());
  options.hang_window = to_duration(config.detection().hang_window());
  options.deadlock = config.detection().deadlock();
  return options;
}

Result<ProbeSet> probe_set(const config::Config& config) {
  Result<std::optional<ProbeSpec>> startup =
      probe_spec(config, config.has_startup_probe(), config.startup_probe());
  if (!startup) return std::unexpected(std::move(startup.error()).with_context("startupProbe"));
  Result<std::optional<ProbeSpec>> liveness =
      probe_spec(config, config.has_liveness_probe(), config.liveness_probe());
  if (!liveness) return std::unexpected(std::move(liveness.error()).with_context("livenessProbe"));
  Result<std::optional<ProbeSpec>> readiness =
      probe_spec(config, config.has_readiness_probe(), config.readiness_probe());
  if (!readiness) {
    return std::unexpected(std::move(readiness.error()).with_context("readinessProbe"));
  }
  if (!*startup && config.agent().app_port() != 0) {
    Result<SocketAddress> address = agent_address(config, {}, 0);
    if (!address) return std::unexpected(std::move(address.error()).with_context("agent.appHost"));
    *startup = ProbeSpec{.action = TcpProbe{.address = *address},
                         .initial_delay = {},
                         .period = kPortProbePeriod,
                         .timeout = std::chrono::seconds(1),
                         .success_threshold = 1,
                         // How long a start may take is the healing step's time limit.
                         .failure_threshold = std::numeric_limits<uint32_t>::max()};
  }
  return ProbeSet{std::move(*startup), std::move(*liveness), std::move(*readiness)};
}

LogLevel log_level_of(const config::Config& config) {
  const std::string& name = config.log().level();
  if (name == "debug") return LogLevel::kDebug;
  if (name == "warn") return LogLevel::kWarn;
  if (name == "error") return LogLevel::kError;
  if (name == "off") return LogLevel::kOff;
  return LogLevel::kInfo;
}

}  // namespace remora
