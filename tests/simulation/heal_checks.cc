#include "tests/simulation/heal_checks.h"

#include <fmt/format.h>

namespace remora::simulation {
void HealChecks::note_incident(const Incident& incident) {
  const auto known = incidents_.find(incident.id);
  if (incident.status == IncidentStatus::kOpen) {
    if (known != incidents_.end()) fail("incident opened twice: " + incident.id);
    if (incident.closed_reason != ClosedReason::kNone) fail("open with a reason: " + incident.id);
    for (const auto& [id, status] : incidents_) {
      if (status == IncidentStatus::kOpen && !is_advisory(incident.fault) &&
          id.find("-dependency-") == std::string::npos &&
          id.find("-overload-") == std::string::npos) {
        fail("two incidents at once: " + id + " and " + incident.id);
      }
    }
  } else {
    if (known == incidents_.end()) fail("incident closed that was never opened: " + incident.id);
    if (incident.closed_reason == ClosedReason::kNone) fail("closed without a reason");
    const bool recovered = incident.closed_reason == ClosedReason::kRecovered;
    if (recovered != (incident.ready_at_unix_ns != 0)) fail("recovered, but never ready");
    if (incident.evidence.empty()) fail("an incident without evidence: " + incident.id);
    // The fault that took over was hidden behind this one.
    if (incident.closed_reason == ClosedReason::kSuperseded) ++faults_;
    gave_up_ = gave_up_ || incident.closed_reason == ClosedReason::kGaveUp;
  }
  for (const IncidentStep& step : incident.steps) {
    if (is_advisory(incident.fault) != (step.action == HealAction::kNone)) {
      fail(fmt::format("{} was answered with {}", fault_kind_name(incident.fault),
                       heal_action_name(step.action)));
    }
  }
  incidents_[incident.id] = incident.status;
}

const std::string& HealChecks::after_event(MonotonicTime now) {
  if (!orchestrator_.violations.empty()) fail(orchestrator_.violations.front());
  check_gate(now);
  check_decision(now);
  check_stops();
  check_starts();
  return failure_;
}

void HealChecks::check_gate(MonotonicTime now) {
  if (gate_.up && !orchestrator_.running()) fail("the gate is open and nothing runs");
  const Phase phase = supervisor_.phase();
  if (phase == Phase::kServing && !up_since_) up_since_ = now;
  if (phase != Phase::kServing && up_since_) {
    was_stable_ = was_stable_ || now - *up_since_ >= policy_.stable_after;
    up_since_.reset();
  }
}

void HealChecks::check_decision(MonotonicTime now) {
  const size_t decisions = supervisor_.history().records().size();
  if (decisions == decisions_seen_) return;
  if (decisions != decisions_seen_ + 1) fail("more than one decision in one event");
  decisions_seen_ = decisions;
  if (stop_asked_) fail("a decision after the end was asked for");
  // Further steps of one incident need none: the step before has failed.
  const Incident* open = supervisor_.open_incident();
  const bool first_step = open != nullptr && open->steps.size() == 1;
  if (first_step && faults_ == faults_at_last_decision_) fail("a decision without a fault");
  faults_at_last_decision_ = faults_;
  const Decision& decision = supervisor_.last_decision();
  if (decision.action == HealAction::kGiveUp) return;
  if (last_delay_ && decision.delay < *last_delay_ && !was_stable_) {
    fail(fmt::format("the back-off shrank from {} s to {} s at {} s", to_seconds(*last_delay_),
                     to_seconds(decision.delay), to_seconds(now.time_since_epoch())));
  }
  last_delay_ = decision.delay;
  was_stable_ = false;
}

void HealChecks::check_stops() {
  if (orchestrator_.stops.size() == stops_seen_) return;
  stops_seen_ = orchestrator_.stops.size();
  if (stop_asked_ || supervisor_.phase() >= Phase::kDraining) return;
  check_intent("stopped");
}

void HealChecks::check_starts() {
  if (orchestrator_.starts.size() == starts_seen_) return;
  starts_seen_ = orchestrator_.starts.size();
  if (stop_asked_) fail("started after the end was asked for");
  if (gave_up_) fail("started after it gave up");
  if (starts_seen_ == 1) return;
  check_intent("started");
  const HealRecord& record = supervisor_.history().records().back();
  if (orchestrator_.starts.back() - record.decided_at < *last_delay_) {
    fail("started before its waiting time was over");
  }
  // The first start is no restart.
  const size_t restarts_max = policy_.restarts_max;
  if (starts_seen_ - 1 <= restarts_max) return;
  const Duration span = orchestrator_.starts[starts_seen_ - 1] -
                        orchestrator_.starts[starts_seen_ - 1 - restarts_max];
  if (span <= policy_.restarts_window) {
    fail(fmt::format("{} restarts within {} s", restarts_max + 1, to_seconds(span)));
  }
}

// The step stands in the log before its effect, unless the log was in trouble.
void HealChecks::check_intent(std::string_view effect) {
  const Incident* open = supervisor_.open_incident();
  if (open == nullptr) {
    // The start of a state that was damaged at first has its own incident, too.
    fail(fmt::format("{} without an incident", effect));
    return;
  }
  if (disk_trouble_) return;
  const auto kept = log_.kept.find(open->id);
  if (kept == log_.kept.end() || kept->second.steps.size() != open->steps.size()) {
    fail(fmt::format("{} before it was written down", effect));
  }
}

const std::string& HealChecks::at_end() {
  if (orchestrator_.exists()) fail("the agent outlived the supervisor");
  if (gate_.up) fail("the gate is open at the end");
  if (supervisor_.open_incident() != nullptr) fail("an incident is open at the end");
  for (const auto& [id, status] : incidents_) {
    if (status == IncidentStatus::kOpen) fail("never closed: " + id);
  }
  if (!disk_trouble_) {
    for (const auto& [id, incident] : log_.kept) {
      if (incident.status == IncidentStatus::kOpen) fail("open on disk: " + id);
    }
  }
  return failure_;
}

}  // namespace remora::simulation
