// The half of the composition root that shows the inside: admin endpoints and metrics.
#include <nlohmann/json.hpp>
#include <utility>

#include <unistd.h>

#include "sidecar/app/app.h"

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

AdminSource App::admin_source() {
  AdminSource source;
  source.readiness = [this] { return readiness(); };
  source.status = [this] { return status(); };
  source.metrics = [this] { return registry_.render(); };
  source.config = [this](bool as_json) { return as_json ? loaded_.json : loaded_.yaml; };
  source.drain = [this] { supervisor_->shutdown(); };
  if (snapshots_) {
    source.snapshot = [this](AdminDone done) { snapshots_->take("manual", std::move(done)); };
  }
  source.incidents = [this](AdminDone done) { list_incidents(std::move(done)); };
  return source;
}

AdminReadiness App::readiness() const {
  AdminReadiness readiness;
  readiness.ready = supervisor_ && supervisor_->serving();
  if (readiness.ready) return readiness;
  readiness.reasons.push_back(
      "phase " + std::string(supervisor_ ? phase_name(supervisor_->phase()) : "starting"));
  if (supervisor_ && supervisor_->open_incident() != nullptr) {
    readiness.reasons.push_back(supervisor_->open_incident()->summary);
  }
  return readiness;
}

AdminStatus App::status() const {
  const MonotonicTime now = loop_.clock().now();
  AdminStatus status;
  status.version = REMORA_VERSION;
  status.phase = std::string(phase_name(supervisor_->phase()));
  status.readiness = readiness();
  status.remora_pid = ::getpid();
  status.remora_uptime_s = to_seconds(now - began_at_);
  status.agent_pid = agent_.pid;
  status.agent_generation = agent_.generation;
  if (agent_.pid != 0) status.agent_uptime_s = to_seconds(now - agent_started_at_);
  if (proxy_) {
    status.listen = proxy_->address().to_string();
    status.requests_in_flight = proxy_->in_flight();
    status.requests_held = proxy_->held();
    status.requests_finished = proxy_->counters().requests - proxy_->in_flight();
    status.requests_replayed = proxy_->counters().replays;
  }
  status.restarts = supervisor_->restarts();
  status.last_incident = last_incident_;
  if (snapshots_) status.snapshots = snapshots_->status();
  return status;
}

void App::list_incidents(AdminDone done) const {
  nlohmann::json list = nlohmann::json::array();
  if (const auto* memory = dynamic_cast<const MemoryIncidentLog*>(incidents_.get())) {
    for (const Incident& incident : memory->incidents()) {
      list.push_back(nlohmann::json::parse(incident_to_json(incident)));
    }
  } else {
    Result<IncidentListing> listing = remora::list_incidents(config_.snapshots().store());
    if (!listing) {
      done(std::unexpected(std::move(listing.error())));
      return;
    }
    for (const Incident& incident : listing->incidents) {
      list.push_back(nlohmann::json::parse(incident_to_json(incident)));
    }
  }
  done(list.dump());
}

void App::collect_metrics() {
  metrics_.agent_up.set(agent_.pid != 0 ? 1 : 0);
  metrics_.agent_ready.set(supervisor_->serving() ? 1 : 0);
  metrics_.agent_generation.set(static_cast<double>(agent_.generation));
  metrics_.agent_restarts.set(supervisor_->restarts());
  metrics_.incident_open.set(supervisor_->open_incident() != nullptr ? 1 : 0);
  if (!proxy_) return;
  const ProxyCounters& counters = proxy_->counters();
  inbound_metrics_.in_flight.set(static_cast<double>(proxy_->in_flight()));
  inbound_metrics_.held.set(static_cast<double>(proxy_->held()));
  inbound_metrics_.replayed.set(counters.replays);
  inbound_metrics_.rejected.set(counters.rejected_overload);
  inbound_metrics_.connections.set(static_cast<double>(proxy_->connections()));
  inbound_metrics_.upstream_connections.set(static_cast<double>(proxy_->upstream_connections()));
  inbound_metrics_.connect_failures.set(counters.connect_failures);
  inbound_metrics_.bytes_to_agent.set(counters.bytes_to_agent);
  inbound_metrics_.bytes_from_agent.set(counters.bytes_from_agent);
}

void App::on_incident(const Incident& incident) {
  last_incident_ = admin_incident(incident);
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

void App::set_serving(bool serving) {
  if (snapshots_) snapshots_->set_serving(serving);
}

}  // namespace remora
