#include "sidecar/admin/remora_metrics.h"

#include <cstdlib>

#include "sidecar/base/log.h"

namespace remora {
namespace {

constexpr std::array<std::string_view, 6> code_classes = {"none", "1xx", "2xx",
                                                          "3xx",  "4xx", "5xx"};

Counter& replayed_counter(MetricRegistry& registry, std::string_view agent,
                          std::string_view listener) {
  return registry.counter("remora_http_requests_replayed_total",
                          "Times that a request was sent to the agent again.",
                          {{"agent", agent}, {"listener", listener}});
}

Counter& bytes_counter(MetricRegistry& registry, std::string_view agent, std::string_view listener,
                       std::string_view direction) {
  return registry.counter("remora_upstream_bytes_total",
                          "Bytes exchanged with the agent, seen from the agent.",
                          {{"agent", agent}, {"listener", listener}, {"direction", direction}});
}

Counter& outbound_counter(MetricRegistry& registry, std::string_view way) {
  return registry.counter("remora_outbound_connections_total",
                          "Connections that came from agents, by redirect rules or to the proxy.",
                          {{"way", way}});
}

Counter& reload_counter(MetricRegistry& registry, std::string_view outcome) {
  return registry.counter("remora_config_reloads_total",
                          "Reloads of the configuration; a refused one changes nothing.",
                          {{"outcome", outcome}});
}

}  // namespace

ListenerMetrics::ListenerMetrics(MetricRegistry& registry, std::string_view agent,
                                 std::string_view listener)
    : in_flight(registry.gauge("remora_http_requests_in_flight",
                               "Requests that have come and are not answered, held ones included.",
                               {{"agent", agent}, {"listener", listener}})),
      held(registry.gauge("remora_http_requests_held",
                          "Requests that wait for an agent that is being healed.",
                          {{"agent", agent}, {"listener", listener}})),
      replayed(replayed_counter(registry, agent, listener)),
      rejected(registry.counter("remora_http_requests_rejected_total",
                                "Requests answered 503 because a limit was reached.",
                                {{"agent", agent}, {"listener", listener}})),
      connections(registry.gauge("remora_downstream_connections", "Connections from callers.",
                                 {{"agent", agent}, {"listener", listener}})),
      upstream_connections(registry.gauge("remora_upstream_connections",
                                          "Connections to the agent.",
                                          {{"agent", agent}, {"listener", listener}})),
      connect_failures(registry.counter("remora_upstream_connect_failures_total",
                                        "Connection attempts to the agent that failed.",
                                        {{"agent", agent}, {"listener", listener}})),
      bytes_to_agent(bytes_counter(registry, agent, listener, "received")),
      bytes_from_agent(bytes_counter(registry, agent, listener, "sent")) {
  for (size_t i = 0; i < code_classes.size(); ++i) {
    requests_[i] = &registry.counter(
        "remora_http_requests_total",
        "Finished requests by class of status; none: the caller left before an answer.",
        {{"agent", agent}, {"listener", listener}, {"code_class", code_classes[i]}});
  }
  for (size_t i = 0; i < code_classes.size(); ++i) {
    durations_[i] = &registry.histogram(
        "remora_http_request_duration_seconds",
        "From a request's head to the end of its response, waiting for healing included.",
        {{"agent", agent}, {"listener", listener}, {"code_class", code_classes[i]}});
  }
}

AgentMetrics::AgentMetrics(MetricRegistry& registry, std::string_view agent,
                           std::span<const std::string_view> fault_kinds)
    : restarts(registry.counter("remora_agent_restarts_total",
                                "Starts of the agent after the first.", {{"agent", agent}})),
      up(registry.gauge("remora_agent_up", "1 while the agent's process runs.",
                        {{"agent", agent}})),
      ready(registry.gauge("remora_agent_ready", "1 while requests are sent to the agent.",
                           {{"agent", agent}})),
      generation(registry.gauge("remora_agent_generation",
                                "Number of the running agent: 1 for the first start.",
                                {{"agent", agent}})),
      incident_open(registry.gauge("remora_incident_open", "1 while a fault is being healed.",
                                   {{"agent", agent}})),
      snapshots_kept(
          registry.gauge("remora_snapshots_kept", "Snapshots in the store.", {{"agent", agent}})),
      snapshot_stored_bytes(registry.gauge("remora_snapshot_stored_bytes",
                                           "Size of the chunks in the snapshot store.",
                                           {{"agent", agent}})),
      store_taken_over(registry.gauge(
          "remora_snapshot_store_taken_over",
          "1 once another one writes into the snapshot store: this one publishes nothing more.",
          {{"agent", agent}})),
      snapshot_last_timestamp(registry.gauge(
          "remora_snapshot_last_timestamp_seconds",
          "Unix time of the newest snapshot that was stored or found unchanged; 0: none yet.",
          {{"agent", agent}})),
      snapshot_duration_(registry.histogram("remora_snapshot_duration_seconds",
                                            "Duration of a snapshot, failed ones included.",
                                            {{"agent", agent}})),
      snapshot_stopped_(registry.histogram("remora_snapshot_agent_stopped_seconds",
                                           "How long the agent stood still for a snapshot.",
                                           {{"agent", agent}})) {
  for (const std::string_view kind : fault_kinds) {
    faults_.emplace_back(kind, &registry.counter("remora_faults_total", "Faults that were found.",
                                                 {{"agent", agent}, {"kind", kind}}));
  }
  constexpr std::array<std::string_view, 5> phases = {"detect", "decide", "act", "ready", "total"};
  for (size_t i = 0; i < phases.size(); ++i) {
    healing_[i] = &registry.histogram(
        "remora_healing_duration_seconds",
        "From the first sign of a fault (total), or the end of the phase before, to the end of "
        "this phase.",
        {{"agent", agent}, {"phase", phases[i]}});
  }
  constexpr std::array<std::string_view, snapshot_outcome_count> outcomes = {"stored", "unchanged",
                                                                             "failed"};
  for (size_t i = 0; i < outcomes.size(); ++i) {
    snapshots_[i] = &registry.counter("remora_snapshots_total", "Snapshots that were tried.",
                                      {{"agent", agent}, {"outcome", outcomes[i]}});
  }
}

AppMetrics::AppMetrics(MetricRegistry& registry, std::string_view version)
    : config_reloads_good(reload_counter(registry, "applied")),
      config_reloads_bad(reload_counter(registry, "refused")),
      config_last_reload_good(registry.gauge(
          "remora_config_last_reload_good",
          "0 when the last reload was refused and the last good configuration is in force.")),
      outbound_connections(registry.gauge("remora_outbound_connections",
                                          "Connections of agents that are carried out.")),
      outbound_captured(outbound_counter(registry, "captured")),
      outbound_proxied(outbound_counter(registry, "proxy")) {
  registry.gauge("remora_build_info", "Always 1; the version is the label.", {{"version", version}})
      .set(1);
  config_last_reload_good.set(1);
}

void AgentMetrics::count_fault(std::string_view kind) {
  for (const auto& [name, counter] : faults_) {
    if (name == kind) return counter->add();
  }
  log_error("metric_broken", {{"metric", "remora_faults_total"}, {"kind", kind}});
  flush_log();
  std::abort();
}

void AgentMetrics::observe_healing(const HealingTimes& times) {
  const std::optional<Duration>* const parts[] = {&times.detect, &times.decide, &times.act,
                                                  &times.ready, &times.total};
  for (size_t i = 0; i < healing_.size(); ++i) {
    if (parts[i]->has_value()) healing_[i]->observe(**parts[i]);
  }
}

void AgentMetrics::count_snapshot(SnapshotOutcome outcome, Duration duration, Duration stopped) {
  snapshots_[static_cast<size_t>(outcome)]->add();
  snapshot_duration_.observe(duration);
  snapshot_stopped_.observe(stopped);
}

}  // namespace remora
