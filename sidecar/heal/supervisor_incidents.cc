// The supervisor's book-keeping: from faults to incidents, their steps and their ends.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "sidecar/base/log.h"
#include "sidecar/heal/supervisor.h"

namespace remora {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014): enough to tell ids apart, and the same for a seed.
uint64_t next_random(uint64_t& state) {
  state += 0x9e3779b97f4a7c15ULL;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

void add_evidence(Incident& incident, const std::vector<EvidenceItem>& more) {
  for (const EvidenceItem& item : more) {
    if (incident.evidence.size() >= incident_evidence_max) return;
    incident.evidence.push_back(item);
  }
}

}  // namespace

int64_t Supervisor::unix_ns(MonotonicTime at) const {
  return (at.time_since_epoch() + wall_offset_).count();
}

void Supervisor::take_fault(Fault fault) {
  if (is_advisory(fault.kind)) {
    take_advisory(fault);
    return;
  }
  // Otherwise nothing runs that could be ill, or its end is under way already.
  const bool acts = phase_ == Phase::kWarmingUp || phase_ == Phase::kServing;
  if (acts && agent_ == AgentState::kRunning && !pending_fault_) {
    pending_fault_ = std::move(fault);
    if (!holds_back()) return;
    log_warn("healing_is_paused", {{"fault", fault_kind_name(pending_fault_->kind)},
                                   {"summary", pending_fault_->summary}});
  } else {
    log_info("fault_not_acted_upon", {{"fault", fault_kind_name(fault.kind)},
                                      {"phase", phase_name(phase_)},
                                      {"summary", fault.summary}});
  }
}

bool Supervisor::holds_back() const {
  // What a person asks for is not healing.
  return options_.policy.paused && !order_ && agent_ == AgentState::kRunning &&
         (phase_ == Phase::kWarmingUp || phase_ == Phase::kServing);
}

void Supervisor::forget_what_passed() {
  if (!holds_back() || !pending_fault_ || classifier_.active(pending_fault_->kind)) return;
  log_info("fault_passed", {{"fault", fault_kind_name(pending_fault_->kind)}});
  pending_fault_.reset();
}

void Supervisor::note_store_taken_over(const std::string& why) {
  const MonotonicTime now = seams_.loop.now();
  take_advisory({FaultKind::kStoreTakenOver, why, {{"store", why}}, now, now});
}

void Supervisor::take_advisory(const Fault& fault) {
  if (is_ending()) return;
  Advisory& advisory = advisories_[static_cast<size_t>(fault.kind)];
  if (advisory.is_open()) return;
  const MonotonicTime now = seams_.loop.now();
  const bool comes_back =
      advisory.incident &&
      now - advisory.closed_at < std::chrono::milliseconds(advisory_merge_window_ms);
  if (comes_back) {
    Incident& record = *advisory.incident;
    record.status = IncidentStatus::kOpen;
    record.closed_reason = ClosedReason::kNone;
    record.closed_at_unix_ns = record.ready_at_unix_ns = 0;
    add_evidence(record, fault.evidence);
    write_incident(record);
    return;
  }
  const Decision decision = decide(fault, history_, options_.policy, now);
  advisory.incident = make_incident(fault);
  Incident& record = *advisory.incident;
  record.decided_at_unix_ns = unix_ns_now();
  record.steps.push_back({decision.action, decision.reason, record.decided_at_unix_ns, 0, 0, ""});
  write_incident(record);
  report(record);
  seams_.alerter.alert(record, [] {});
}

void Supervisor::close_advisories(ClosedReason reason, bool only_quiet) {
  for (size_t i = 0; i < advisories_.size(); ++i) {
    const auto kind = static_cast<FaultKind>(i);
    Advisory& advisory = advisories_[i];
    // What was taken over is not given back.
    const bool holds = classifier_.active(kind) || kind == FaultKind::kStoreTakenOver;
    if (!advisory.is_open() || (only_quiet && holds)) continue;
    Incident& record = *advisory.incident;
    advisory.closed_at = seams_.loop.now();
    record.status = IncidentStatus::kClosed;
    record.closed_reason = reason;
    record.closed_at_unix_ns = unix_ns_now();
    if (reason == ClosedReason::kRecovered) record.ready_at_unix_ns = record.closed_at_unix_ns;
    write_incident(record);
    report(record);
  }
}

Fault Supervisor::fault_of_exit(const AgentExit& exit, std::optional<Fault> found) const {
  if (found && !is_advisory(found->kind)) return std::move(*found);
  const MonotonicTime now = seams_.loop.now();
  std::string what = exit.signal != 0 ? fmt::format("killed by signal {}", exit.signal)
                                      : fmt::format("exited with code {}", exit.exit_code);
  return Fault{FaultKind::kCrash, what, {{"exit", what}}, now, now};
}

// A fault that meets an incident which is being healed means that its step has failed.
void Supervisor::take_up_fault() {
  const std::optional<std::string> failure = std::exchange(step_failure_, std::nullopt);
  std::optional<Fault> fault = std::exchange(pending_fault_, std::nullopt);
  if (!fault) {
    end_step("failed: " + failure.value_or(""));
    return;
  }
  if (!incident_) {
    open_incident(std::move(*fault));
    return;
  }
  const std::string what = fmt::format("{}: {}", fault_kind_name(fault->kind), fault->summary);
  // Damaged state has its own ladder, and hides behind whatever it caused. What is asked for takes
  // the place of what was being done.
  const bool is_damage =
      fault->kind == FaultKind::kStateDamaged && incident_->fault.kind != FaultKind::kStateDamaged;
  if (is_damage || fault->kind == FaultKind::kRequested) {
    const int64_t began = incident_->record.began_at_unix_ns;
    const std::string earlier = incident_->record.id;
    close_incident(ClosedReason::kSuperseded, "cancelled: " + what);
    history_.note_superseded();
    open_incident(std::move(*fault));
    incident_->record.began_at_unix_ns = began;
    incident_->record.evidence.push_back({"incident", "found while healing " + earlier});
    return;
  }
  end_step("failed: " + what);
  add_evidence(incident_->record, fault->evidence);
}

Incident Supervisor::make_incident(const Fault& fault) {
  if (!incident_) {
    const Clock& clock = seams_.loop.clock();
    wall_offset_ = clock.wall_now().time_since_epoch() - clock.now().time_since_epoch();
  }
  Incident record;
  record.fault = fault.kind;
  record.summary = fault.summary;
  record.generation = instance_.generation;
  record.evidence = fault.evidence;
  record.log_tail = seams_.orchestrator.log_tail(instance_.generation);
  if (hooks_.in_flight_requests) record.requests_in_flight = hooks_.in_flight_requests();
  record.detected_at_unix_ns = unix_ns(fault.detected_at);
  record.began_at_unix_ns = std::min(unix_ns(fault.began_at), record.detected_at_unix_ns);
  record.id = make_incident_id(record.detected_at_unix_ns, fault.kind, next_random(random_state_));
  return record;
}

void Supervisor::open_incident(Fault fault) {
  Incident record = make_incident(fault);
  log_warn("incident_opened", {{"incident", record.id},
                               {"fault", fault_kind_name(fault.kind)},
                               {"summary", fault.summary}});
  report(record);
  incident_.emplace(OpenIncident{std::move(record), std::move(fault)});
}

void Supervisor::close_incident(ClosedReason reason, std::string outcome) {
  end_step(std::move(outcome));
  Incident record = std::move(incident_->record);
  incident_.reset();
  record.status = IncidentStatus::kClosed;
  record.closed_reason = reason;
  record.closed_at_unix_ns = unix_ns_now();
  log_warn("incident_closed", {{"incident", record.id},
                               {"fault", fault_kind_name(record.fault)},
                               {"closed_reason", closed_reason_name(reason)},
                               {"mttr_s", record.mttr_s().value_or(0)}});
  write_incident(record);
  report(record);
  if (record.fault == FaultKind::kRequested && order_decided_) {
    if (reason == ClosedReason::kRecovered) {
      answer_order(std::exchange(order_restored_, {}));
    } else {
      answer_order(make_error(ErrorCode::kCancelled, ErrorSource::kAgent,
                              "the agent did not become ready: see incident " + record.id));
    }
  }
  if (reason == ClosedReason::kGaveUp) {
    seams_.alerter.alert(record, later(&Supervisor::note_alerted));
  }
}

void Supervisor::end_step(std::string outcome) {
  std::vector<IncidentStep>& steps = incident_->record.steps;
  if (steps.empty() || steps.back().done_at_unix_ns != 0) return;
  steps.back().outcome = std::move(outcome);
  steps.back().done_at_unix_ns = unix_ns_now();
}

void Supervisor::add_step(const Decision& decision) {
  Incident& record = incident_->record;
  const int64_t now = unix_ns_now();
  if (record.decided_at_unix_ns == 0) record.decided_at_unix_ns = now;
  if (record.steps.size() == incident_steps_max) record.steps.erase(record.steps.begin());
  record.steps.push_back({decision.action, decision.reason, now, 0, 0, ""});
  log_info("heal_step", {{"incident", record.id},
                         {"action", heal_action_name(decision.action)},
                         {"reason", decision.reason}});
}

uint64_t Supervisor::write_incident(const Incident& incident) {
  const uint64_t write = ++writes_begun_;
  seams_.incidents.write(incident, [this, alive = alive_, write](Result<void> result) {
    if (*alive) on_incident_written(write, result);
  });
  return write;
}

void Supervisor::report(const Incident& incident) {
  if (hooks_.on_incident) hooks_.on_incident(incident);
}

}  // namespace remora
