#include "sidecar/heal/supervisor.h"

#include <algorithm>
#include <csignal>
#include <utility>

#include <fmt/format.h>

#include "sidecar/base/exit_codes.h"
#include "sidecar/base/log.h"

namespace remora {
namespace {

using std::chrono::milliseconds;

}  // namespace

std::string_view phase_name(Phase phase) {
  switch (phase) {
    case Phase::kIdle:
      return "idle";
    case Phase::kCheckingState:
      return "checking_state";
    case Phase::kStarting:
      return "starting";
    case Phase::kWarmingUp:
      return "warming_up";
    case Phase::kServing:
      return "serving";
    case Phase::kRecordingIntent:
      return "recording_intent";
    case Phase::kStoppingAgent:
      return "stopping_agent";
    case Phase::kBackingOff:
      return "backing_off";
    case Phase::kRestoring:
      return "restoring";
    case Phase::kDraining:
      return "draining";
    case Phase::kTerminating:
      return "terminating";
    case Phase::kFinalSnapshot:
      return "final_snapshot";
    case Phase::kGivingUp:
      return "giving_up";
    case Phase::kFlushing:
      return "flushing";
    case Phase::kFinished:
      break;
  }
  return "finished";
}

Supervisor::Supervisor(SupervisorSeams seams, SupervisorOptions options, SupervisorHooks hooks)
    : seams_(seams),
      options_(std::move(options)),
      hooks_(std::move(hooks)),
      classifier_(options_.detection),
      random_state_(options_.random_seed) {
  set_policy(HealingPolicy(options_.policy));
  seams_.orchestrator.set_events(*this);
}

Supervisor::~Supervisor() { *alive_ = false; }

void Supervisor::set_policy(const HealingPolicy& policy) {
  options_.policy = policy;
  if (seams_.state_keeper == nullptr) options_.policy.can_restore = false;
  advance();
}

void Supervisor::start() {
  start_requested_ = true;
  advance();
}

void Supervisor::shutdown() {
  ++stops_requested_;
  log_info("stop_requested", {{"phase", phase_name(phase_)}, {"hasten", stops_requested_ > 1}});
  if (stops_requested_ > 1 && agent_ != AgentState::kNone && stop_sent_) {
    seams_.orchestrator.stop_agent(Duration{0});
  }
  advance();
}

void Supervisor::observe(const Observation& observation) {
  if (auto fault = classifier_.observe(observation)) take_fault(std::move(*fault));
  forget_what_passed();
  close_advisories(ClosedReason::kRecovered, /*only_quiet=*/true);
  advance();
}

void Supervisor::on_ready() {
  if (agent_ != AgentState::kRunning) return;
  ready_ = true;
  if (phase_ == Phase::kServing) set_gate(true, "");
  advance();
}

void Supervisor::on_unready(std::string_view reason) {
  ready_ = false;
  if (phase_ == Phase::kServing) set_gate(false, reason);
}

void Supervisor::on_agent_started(const AgentInstance& instance) {
  agent_ = AgentState::kRunning;
  instance_ = instance;
  log_info("agent_started", {{"generation", instance.generation}, {"pid", instance.pid}});
  classifier_.observe({seams_.loop.now(), AgentStarted{instance.generation, instance.pid}});
  if (seams_.orchestrator.started_by_others()) {
    // How long it was awaited says nothing about it.
    start_began_at_ = seams_.loop.now();
    if (incident_) limit_step();
  }
  if (hooks_.on_agent_started) hooks_.on_agent_started(instance);
  advance();
}

void Supervisor::on_agent_start_failed(const Error& error) {
  agent_ = AgentState::kNone;
  log_error("agent_start_failed", {{"error", error.message}});
  if (phase_ == Phase::kStarting) {
    // A command that never ran is the user's mistake: more attempts would only hide it.
    if (instance_.generation == 0 && !error.retryable) {
      hopeless_ = true;
      exit_code_ = error.code == ErrorCode::kNotFound ? exit_not_found : exit_not_runnable;
    } else {
      const MonotonicTime now = seams_.loop.now();
      pending_fault_ = Fault{FaultKind::kCrash,
                             "could not be started: " + error.message,
                             {{"exit", error.message}},
                             now,
                             now};
    }
  }
  advance();
}

void Supervisor::on_agent_exited(uint64_t generation, const AgentExit& exit) {
  agent_ = AgentState::kNone;
  ready_ = false;
  last_exit_ = exit;
  log_info("agent_exited", {{"generation", generation},
                            {"exit_code", exit.exit_code},
                            {"signal", exit.signal},
                            {"requested", stop_sent_}});
  close_advisories(ClosedReason::kSuperseded, /*only_quiet=*/false);
  auto found = classifier_.observe(
      {seams_.loop.now(), AgentExited{generation, exit.exit_code, exit.signal, exit.oom_killed,
                                      stop_sent_, seams_.orchestrator.log_tail(generation)}});
  if (hooks_.on_agent_stopped) hooks_.on_agent_stopped();
  if (stops_requested_ > 0) {
    exit_code_ = exit.exit_code == 128 + SIGTERM ? 0 : exit.exit_code;
  }
  if (phase_ == Phase::kDraining && !drained_) {
    seams_.drain.begin_drain(milliseconds(drain_without_agent_wait_ms_max),
                             later(&Supervisor::note_drained));
  }
  const bool unexpected = phase_ == Phase::kWarmingUp || phase_ == Phase::kServing;
  if (unexpected && options_.clean_end_is_final && exit.exit_code == 0 && exit.signal == 0) {
    clean_end_ = true;
  } else if (unexpected) {
    pending_fault_ = fault_of_exit(exit, std::move(found));
  }
  set_gate(false, "the agent has ended");
  advance();
}

void Supervisor::on_state_checked(Result<StateCheck> result) {
  keeper_busy_ = false;
  if (phase_ == Phase::kCheckingState) {
    const MonotonicTime now = seams_.loop.now();
    state_checked_ = true;
    if (!result) {
      // Not knowing is no reason to keep the agent down.
      log_warn("state_check_failed", {{"error", result.error().message}});
    } else {
      auto found = classifier_.observe({now, StateChecked{result->damaged, result->problem}});
      if (result->damaged) {
        pending_fault_ = found ? std::move(*found)
                               : Fault{FaultKind::kStateDamaged,
                                       "the state is damaged: " + result->problem,
                                       {{"state", result->problem}},
                                       now,
                                       now};
      }
    }
  }
  advance();
}

void Supervisor::on_restored(Result<RestoredSnapshot> result) {
  keeper_busy_ = false;
  if (phase_ == Phase::kRestoring) {
    restored_ = result.has_value();
    if (result) {
      log_info("snapshot_restored", {{"snapshot", result->id}});
      incident_->record.evidence.push_back({"restore", "restored snapshot " + result->id});
      order_restored_ = result->id;
    } else {
      log_warn("restore_failed",
               {{"incident", incident_->record.id}, {"error", result.error().message}});
      if (result.error().code == ErrorCode::kNotFound && !order_) {
        history_.note_nothing_to_restore();
      }
      answer_order(std::unexpected(result.error()));
      step_failure_ = "restore: " + result.error().message;
    }
  }
  advance();
}

void Supervisor::on_incident_written(uint64_t write, const Result<void>& result) {
  ++writes_done_;
  if (!result) log_warn("incident_not_recorded", {{"error", result.error().message}});
  if (write == intent_write_) intent_recorded_ = true;
  advance();
}

void Supervisor::advance() {
  // A hook or a seam may call back in: the outer call sees the new facts.
  if (advancing_) return;
  advancing_ = true;
  for (Phase next = next_phase(); next != phase_; next = next_phase()) enter(next);
  advancing_ = false;
}

bool Supervisor::is_ending() const {
  return phase_ >= Phase::kDraining &&
         (phase_ != Phase::kGivingUp || options_.ends_when_giving_up || stops_requested_ > 0);
}

Phase Supervisor::next_phase() const {
  if (is_ending()) return next_ending_phase();
  if (stops_requested_ > 0 || clean_end_ || hopeless_) return Phase::kDraining;
  if ((pending_fault_ || step_failure_) && !holds_back()) return Phase::kRecordingIntent;
  switch (phase_) {
    case Phase::kIdle:
      return start_requested_ ? Phase::kCheckingState : phase_;
    case Phase::kCheckingState:
      return state_checked_ ? Phase::kStarting : phase_;
    case Phase::kStarting:
      return agent_ == AgentState::kRunning ? Phase::kWarmingUp : phase_;
    case Phase::kWarmingUp:
      return ready_ ? Phase::kServing : phase_;
    case Phase::kRecordingIntent:
      return intent_recorded_ || wait_over_ ? Phase::kStoppingAgent : phase_;
    case Phase::kStoppingAgent:
      if (agent_ != AgentState::kNone) return phase_;
      return decision_.action == HealAction::kGiveUp ? Phase::kGivingUp : Phase::kBackingOff;
    case Phase::kBackingOff:
      if (!wait_over_) return phase_;
      if (decision_.action == HealAction::kRestoreThenRestart) return Phase::kRestoring;
      // A ladder that answers damaged state with a restart means: start from it as it is.
      return incident_->fault.kind == FaultKind::kStateDamaged ? Phase::kStarting
                                                               : Phase::kCheckingState;
    case Phase::kRestoring:
      return restored_ ? Phase::kStarting : phase_;
    case Phase::kGivingUp:
      // Whoever starts the agent goes on; but not from a state that is known to be damaged.
      return (alerted_ && !gave_up_state_) || wait_over_ ? Phase::kCheckingState : phase_;
    default:
      return phase_;
  }
}

Phase Supervisor::next_ending_phase() const {
  const bool hasten = stops_requested_ > 1;
  switch (phase_) {
    case Phase::kDraining:
      return drained_ || wait_over_ || hasten ? Phase::kTerminating : phase_;
    case Phase::kTerminating:
      // A restore that is cut off would leave half a state behind.
      return agent_ == AgentState::kNone && (!keeper_busy_ || hasten) ? Phase::kFinalSnapshot
                                                                      : phase_;
    case Phase::kFinalSnapshot:
      return snapshot_done_ || wait_over_ || hasten ? Phase::kFlushing : phase_;
    case Phase::kGivingUp:
      return (alerted_ && drained_) || wait_over_ || hasten ? Phase::kFlushing : phase_;
    case Phase::kFlushing:
      return writes_done_ == writes_begun_ || wait_over_ ? Phase::kFinished : phase_;
    default:
      return phase_;
  }
}

void Supervisor::enter(Phase phase) {
  const Phase from = std::exchange(phase_, phase);
  wait_over_ = false;
  phase_timer_.cancel();
  log_debug("phase", {{"from", phase_name(from)}, {"to", phase_name(phase)}});
  switch (phase) {
    case Phase::kCheckingState:
      return enter_checking_state();
    case Phase::kStarting:
      return enter_starting();
    case Phase::kServing:
      return enter_serving();
    case Phase::kRecordingIntent:
      return enter_recording_intent();
    case Phase::kStoppingAgent:
      return enter_stopping_agent();
    case Phase::kBackingOff:
      return enter_backing_off();
    case Phase::kRestoring:
      return enter_restoring();
    case Phase::kDraining:
      return enter_draining(from);
    case Phase::kTerminating:
      return enter_terminating();
    case Phase::kFinalSnapshot:
      return enter_final_snapshot();
    case Phase::kGivingUp:
      return enter_giving_up();
    case Phase::kFlushing:
      return limit_phase(milliseconds(intent_write_wait_ms_max));
    case Phase::kFinished:
      return enter_finished();
    case Phase::kIdle:
    case Phase::kWarmingUp:
      return;
  }
}

void Supervisor::limit_phase(Duration wait) {
  phase_timer_ = seams_.loop.add_timer(wait, [this] {
    wait_over_ = true;
    advance();
  });
}

Task Supervisor::later(void (Supervisor::*fact)()) {
  return [this, alive = alive_, fact] {
    if (!*alive) return;
    (this->*fact)();
    advance();
  };
}

void Supervisor::enter_checking_state() {
  state_checked_ = seams_.state_keeper == nullptr;
  if (state_checked_) return;
  keeper_busy_ = true;
  seams_.state_keeper->check_state([this, alive = alive_](Result<StateCheck> result) {
    if (*alive) on_state_checked(std::move(result));
  });
}

void Supervisor::enter_starting() {
  const MonotonicTime now = seams_.loop.now();
  agent_ = AgentState::kStarting;
  ready_ = false;
  stop_sent_ = false;
  start_began_at_ = now;
  ++starts_;
  if (incident_) {
    history_.note_started(now);
    Incident& record = incident_->record;
    record.acted_at_unix_ns = record.steps.back().acted_at_unix_ns = unix_ns_now();
    write_incident(record);
    if (!seams_.orchestrator.started_by_others()) limit_step();
  }
  seams_.orchestrator.start_agent();
}

void Supervisor::limit_step() {
  const Duration limit = step_time_limit();
  step_timer_ = seams_.loop.add_timer(limit, [this, limit] {
    step_failure_ = fmt::format("not ready within {:g} s", to_seconds(limit));
    advance();
  });
}

Duration Supervisor::step_time_limit() const {
  return std::max(options_.policy.step_timeout, 2 * longest_start_);
}

void Supervisor::enter_serving() {
  const MonotonicTime now = seams_.loop.now();
  step_timer_.cancel();
  step_failure_.reset();  // of a start that took long while healing was paused
  gave_up_ = false;
  longest_start_ = std::max(longest_start_, now - start_began_at_);
  if (incident_) {
    history_.note_ready(now);
    incident_->record.ready_at_unix_ns = unix_ns_now();
    close_incident(ClosedReason::kRecovered, "ready");
  }
  set_gate(true, "");
}

void Supervisor::enter_recording_intent() {
  const MonotonicTime now = seams_.loop.now();
  step_timer_.cancel();
  take_up_fault();
  set_gate(false, incident_->record.summary);
  history_.note_fault(now);
  decision_ = next_decision(now);
  decided_at_ = now;
  history_.note_decided(incident_->fault.kind, decision_.step, decision_.action, now);
  add_step(decision_);
  intent_recorded_ = false;
  intent_write_ = write_incident(incident_->record);
  limit_phase(milliseconds(intent_write_wait_ms_max));
}

void Supervisor::enter_stopping_agent() {
  if (!intent_recorded_) {
    log_warn("intent_not_recorded", {{"incident", incident_->record.id}});
  }
  if (agent_ == AgentState::kNone) return;
  stop_sent_ = true;
  seams_.orchestrator.stop_agent(options_.heal_stop_grace);
}

void Supervisor::enter_backing_off() {
  limit_phase(decided_at_ + decision_.delay - seams_.loop.now());
}

void Supervisor::enter_restoring() {
  restored_ = false;
  keeper_busy_ = true;
  // decide() restores only with a keeper (can_restore).
  seams_.state_keeper->restore(order_ ? order_->snapshot : std::string(),
                               [this, alive = alive_](Result<RestoredSnapshot> result) {
                                 if (*alive) on_restored(std::move(result));
                               });
}

void Supervisor::enter_draining(Phase from) {
  step_timer_.cancel();
  pending_fault_.reset();
  step_failure_.reset();
  // What is damaged must not become the newest snapshot.
  snapshot_wanted_ =
      instance_.generation > 0 && !(incident_ && incident_->fault.kind == FaultKind::kStateDamaged);
  if (incident_) {
    close_incident(ClosedReason::kStopped,
                   clean_end_ ? "the agent has finished" : "cancelled: Remora was asked to stop");
  }
  close_advisories(ClosedReason::kStopped, /*only_quiet=*/false);
  Duration wait{0};
  if (from == Phase::kServing) {
    wait = agent_ == AgentState::kRunning ? options_.drain_wait
                                          : milliseconds(drain_without_agent_wait_ms_max);
  }
  seams_.drain.begin_drain(wait, later(&Supervisor::note_drained));
  // The drain keeps its own time; this is for one that does not come back.
  limit_phase(wait + std::chrono::seconds(1));
}

void Supervisor::enter_terminating() {
  set_gate(false, "stopping");
  if (hooks_.on_drained) hooks_.on_drained();
  if (agent_ == AgentState::kNone) return;
  stop_sent_ = true;
  seams_.orchestrator.stop_agent(stops_requested_ > 1 ? Duration{0} : options_.stop_grace);
}

void Supervisor::enter_final_snapshot() {
  if (!hooks_.final_snapshot || !snapshot_wanted_ || stops_requested_ > 1) {
    snapshot_done_ = true;
    return;
  }
  hooks_.final_snapshot(later(&Supervisor::note_snapshot_done));
  limit_phase(milliseconds(final_snapshot_wait_ms_max));
}

void Supervisor::enter_giving_up() {
  exit_code_ = last_exit_ && last_exit_->exit_code != 0 ? last_exit_->exit_code : exit_failed;
  gave_up_ = true;
  gave_up_state_ = incident_->fault.kind == FaultKind::kStateDamaged;
  alerted_ = false;
  close_incident(ClosedReason::kGaveUp, "gave up");
  if (options_.ends_when_giving_up) {
    seams_.drain.begin_drain(Duration{0}, later(&Supervisor::note_drained));
  }
  const bool looks_again = gave_up_state_ && !options_.ends_when_giving_up;
  limit_phase(looks_again ? options_.policy.backoff_max : milliseconds(give_up_wait_ms_max));
}

void Supervisor::enter_finished() {
  log_info("supervisor_finished", {{"exit_code", exit_code_}});
  seams_.loop.post([this, alive = alive_] {
    if (*alive && hooks_.on_finished) hooks_.on_finished(exit_code_);
  });
}

void Supervisor::set_gate(bool open, std::string_view reason) {
  if (open == gate_open_) return;
  gate_open_ = open;
  if (open) {
    seams_.gate.agent_up(instance_.generation);
  } else {
    seams_.gate.agent_down(reason);
  }
}

}  // namespace remora
