// The half of AgentUnit that shows its inside: status, incidents, metrics.
#include <nlohmann/json.hpp>
#include <utility>

#include "sidecar/app/agent_unit.h"

namespace remora {
namespace {

AdminIncident admin_incident(const Incident& incident) {
  return {.id = incident.id,
          .fault = std::string(fault_kind_name(incident.fault)),
          .status = incident.status == IncidentStatus::kOpen ? "open" : "closed",
          .closed_reason = std::string(closed_reason_name(incident.closed_reason)),
          .summary = incident.summary,
          .detected_at_unix_ns = incident.detected_at_unix_ns,
          .mttr_s = incident.mttr_s()};
}

std::optional<Duration> to_interval(std::optional<double> seconds) {
  if (!seconds) return std::nullopt;
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(*seconds));
}

}  // namespace

AdminReadiness AgentUnit::readiness() const {
  AdminReadiness readiness;
  readiness.ready = supervisor_->serving();
  if (readiness.ready) return readiness;
  readiness.reasons.push_back("phase " + std::string(phase_name(supervisor_->phase())));
  if (const std::string waits = world_.orchestrator->waits_for(); !waits.empty()) {
    readiness.reasons.push_back("waits for " + waits);
  }
  if (supervisor_->open_incident() != nullptr) {
    readiness.reasons.push_back(supervisor_->open_incident()->summary);
  }
  return readiness;
}

AdminAgent AgentUnit::status() const {
  AdminAgent status;
  status.name = name_;
  status.phase = std::string(phase_name(supervisor_->phase()));
  status.ready = supervisor_->serving();
  status.waits_for = world_.orchestrator->waits_for();
  if (const Fault* held = supervisor_->held_fault()) status.held_fault = held->summary;
  status.pid = agent_.pid;
  status.generation = agent_.generation;
  if (agent_.pid != 0) status.uptime_s = to_seconds(loop_.clock().now() - agent_started_at_);
  if (!proxies_.empty()) {
    for (const auto& proxy : proxies_) {
      if (!accepts_) break;
      status.listen.append(status.listen.empty() ? "" : ", ");
      status.listen.append(proxy->address().to_string());
    }
    const ProxyCounters counted = counters();
    for (const auto& proxy : proxies_) {
      status.requests_in_flight += proxy->in_flight();
      status.requests_held += proxy->held();
    }
    status.requests_finished = counted.requests - status.requests_in_flight;
    status.requests_replayed = counted.replays;
  }
  status.restarts = supervisor_->restarts();
  status.last_incident = last_incident_;
  if (snapshots_) {
    status.snapshots = snapshots_->status();
    status.snapshots->store = config_.snapshots().store();
  }
  return status;
}

Result<std::vector<std::string>> AgentUnit::incidents() const {
  std::vector<std::string> texts;
  if (const auto* memory = dynamic_cast<const MemoryIncidentLog*>(incidents_.get())) {
    for (const Incident& incident : memory->incidents()) {
      texts.push_back(incident_to_json(incident));
    }
    return texts;
  }
  Result<IncidentListing> listing = list_incidents(config_.snapshots().store());
  if (!listing) return std::unexpected(std::move(listing.error()));
  for (const Incident& incident : listing->incidents) texts.push_back(incident_to_json(incident));
  return texts;
}

void AgentUnit::collect_metrics() {
  metrics_.up.set(agent_.pid != 0 ? 1 : 0);
  metrics_.ready.set(supervisor_->serving() ? 1 : 0);
  metrics_.generation.set(static_cast<double>(agent_.generation));
  metrics_.restarts.set(supervisor_->restarts());
  metrics_.incident_open.set(supervisor_->open_incident() != nullptr ? 1 : 0);
  if (proxies_.empty()) return;
  size_t in_flight = 0;
  size_t held = 0;
  size_t connections = 0;
  size_t upstream_connections = 0;
  for (const auto& proxy : proxies_) {
    in_flight += proxy->in_flight();
    held += proxy->held();
    connections += proxy->connections();
    upstream_connections += proxy->upstream_connections();
  }
  inbound_metrics_.in_flight.set(static_cast<double>(in_flight));
  inbound_metrics_.held.set(static_cast<double>(held));
  inbound_metrics_.connections.set(static_cast<double>(connections));
  inbound_metrics_.upstream_connections.set(static_cast<double>(upstream_connections));
  const ProxyCounters counted = counters();
  inbound_metrics_.replayed.set(counted.replays);
  inbound_metrics_.rejected.set(counted.rejected_overload);
  inbound_metrics_.connect_failures.set(counted.connect_failures);
  inbound_metrics_.bytes_to_agent.set(counted.bytes_to_agent);
  inbound_metrics_.bytes_from_agent.set(counted.bytes_from_agent);
}

void AgentUnit::on_incident(const Incident& incident) {
  last_incident_ = admin_incident(incident);
  hooks_.on_incident(incident);
  if (incident.status == IncidentStatus::kOpen) {
    metrics_.count_fault(fault_kind_name(incident.fault));
    return;
  }
  metrics_.observe_healing({.detect = to_interval(incident.detect_s()),
                            .decide = to_interval(incident.decide_s()),
                            .act = to_interval(incident.act_s()),
                            .ready = to_interval(incident.ready_s()),
                            .total = to_interval(incident.mttr_s())});
}

}  // namespace remora
