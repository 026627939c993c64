// The half of the composition root that answers the admin server.
#include <utility>

#include <unistd.h>

#include "sidecar/app/app.h"

namespace remora {

AdminSource App::admin_source() {
  AdminSource source;
  source.readiness = [this] { return readiness(); };
  source.started = [this] { return started(); };
  source.status = [this] { return status(); };
  source.metrics = [this] { return registry_.render(); };
  source.config = [this](bool as_json) { return as_json ? config_.json : config_.yaml; };
  source.drain = [this](bool pod_ends) {
    if (role_.stays) {
      leave(pod_ends);
    } else {
      shutdown();
    }
  };
  bool has_snapshots = false;
  for (const auto& unit : units_) has_snapshots = has_snapshots || unit->has_snapshots();
  if (has_snapshots) {
    source.snapshot = [this](std::string_view agent, AdminDone done) {
      take_snapshot(agent, std::move(done));
    };
  }
  source.incidents = [this](AdminDone done) { list_incidents(std::move(done)); };
  return source;
}

AdminReadiness App::readiness() const {
  AdminReadiness all{!turns_callers_away(), {}};
  if (turns_callers_away()) all.reasons.emplace_back("draining");
  for (const auto& unit : units_) {
    const AdminReadiness one = unit->readiness();
    all.ready = all.ready && one.ready;
    for (const std::string& reason : one.reasons) {
      all.reasons.push_back(units_.size() > 1 ? unit->name() + ": " + reason : reason);
    }
  }
  return all;
}

AdminReadiness App::started() const {
  AdminReadiness all{true, {}};
  for (const auto& unit : units_) {
    if (unit->supervisor().has_begun()) continue;
    all.ready = false;
    all.reasons.push_back(unit->name() + ": its state is being checked");
  }
  return all;
}

AdminStatus App::status() const {
  AdminStatus status;
  status.version = REMORA_VERSION;
  status.readiness = readiness();
  status.remora_pid = ::getpid();
  status.remora_uptime_s = to_seconds(loop_.clock().now() - began_at_);
  status.config = reloads_;
  for (const auto& unit : units_) status.agents.push_back(unit->status());
  return status;
}

void App::take_snapshot(std::string_view agent, AdminDone done) {
  if (agent.empty() && units_.size() == 1) return units_.front()->take_snapshot(std::move(done));
  std::string names;
  for (const auto& unit : units_) {
    if (!unit->has_snapshots()) continue;
    if (unit->name() == agent) return unit->take_snapshot(std::move(done));
    names.append(names.empty() ? "" : ", ").append(unit->name());
  }
  done(make_error(ErrorCode::kNotFound, ErrorSource::kDownstream,
                  "say of which agent with ?agent=NAME; there is: " + names));
}

void App::list_incidents(AdminDone done) const {
  std::string list = "[";
  for (const auto& unit : units_) {
    Result<std::vector<std::string>> texts = unit->incidents();
    if (!texts) return done(std::unexpected(std::move(texts.error())));
    for (const std::string& text : *texts) list.append(list.size() > 1 ? "," : "").append(text);
  }
  done(list + "]");
}

}  // namespace remora
