// The control loop: starts the agent, learns what is wrong with it, heals it, and ends with it.
//
// A state machine. Events (orchestrator, observations, signals, finished writes) only set facts and
// call advance(), which owns every transition; entering a phase performs its one effect. What each
// phase waits for is in next_phase(), what it does is in enter().
//
// Invariants
// - At most one instance of the agent, asked for only in kStarting, which comes after a check of
//   the state or a restore.
// - Nothing is done to the agent without an open incident whose step was written down first
//   (or could not be, within intent_write_wait_ms_max: healing goes on and the loss is logged).
// - Dependency and overload faults are recorded and alerted, never acted upon; so is the loss of
// the
//   snapshot store to another.
// - While healing is paused nothing is done to an agent that runs. What was found is kept, and
// acted
//   upon afterwards if it still holds.
//
// A step has step_timeout from the start to ready, or twice the longest start that was seen to
// succeed, whichever is longer: an agent that loads for minutes is not killed while it loads.
//
// When the agent ends by itself with exit code 0 it has finished its work: no fault, no restart,
// Remora ends with 0. Any other end is a fault.
//
// Exit codes handed to on_finished: 0 after a clean end or a stop that was asked for (the agent's
// end by our own SIGTERM included), else the agent's own code, 128 + signal when it was killed;
// 127 / 126 when the command can't be found / run; 1 when it gave up and the agent's code says
// nothing.
//
// Loop thread only.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/heal/alert.h"
#include "sidecar/heal/decide.h"
#include "sidecar/heal/incident.h"
#include "sidecar/heal/incident_log.h"
#include "sidecar/heal/orchestrator.h"
#include "sidecar/heal/state_keeper.h"
#include "sidecar/health/classify.h"
#include "sidecar/health/observation.h"
#include "sidecar/net/loop.h"

namespace remora {

// Tells the proxy whether there is an agent to send requests to; while there is none they wait.
class GateControl {
 public:
  virtual ~GateControl() = default;
  virtual void agent_up(uint64_t generation) = 0;
  virtual void agent_down(std::string_view reason) = 0;
};

class DrainControl {
 public:
  virtual ~DrainControl() = default;
  // Take nothing new, let what is in flight finish for at most wait_max, then answer the rest.
  // done is posted, once. May be called again with a shorter wait: both dones are called.
  virtual void begin_drain(Duration wait_max, Task done) = 0;
};

// What somebody asks for, beside healing.
struct AgentOrder {
  bool restore = false;  // else only a restart
  std::string snapshot;  // of restore; empty: the latest intact one
  std::string why;       // who asks, for the incident
  // Once, posted: the id of the snapshot that was restored (empty for a restart), when the agent is
  // ready again; or why it didn't come to that.
  std::move_only_function<void(Result<std::string>)> done;
};

struct SupervisorOptions {
  HealingPolicy policy;
  DetectionPolicy detection;
  // Between SIGTERM and SIGKILL when Remora itself is stopped.
  Duration stop_grace = std::chrono::seconds(30);
  // The same for an agent that is ill: it rarely listens, and callers wait.
  Duration heal_stop_grace = std::chrono::seconds(1);
  Duration drain_wait = std::chrono::seconds(25);
  // What an end with exit code 0 means: the agent has finished its work; or (false) it is to be
  // started again, as a Deployment's containers are.
  bool clean_end_is_final = true;
  // False: after giving up it goes on watching. Whoever starts the agent (a kubelet) goes on too,
  // and an agent that comes back by itself is served again. Where damaged state was what it gave up
  // on, the agent is not let begin: the state is looked at again every backoff_max, until somebody
  // has mended it.
  bool ends_when_giving_up = true;
  // Tells incidents of the same millisecond apart; any random bits.
  uint64_t random_seed = 0;
};

// Healing goes on without the record after this.
inline constexpr int64_t intent_write_wait_ms_max = 2'000;
inline constexpr int64_t final_snapshot_wait_ms_max = 60'000;
inline constexpr int64_t give_up_wait_ms_max = 15'000;  // for the alert and the last answers
// The agent is gone while draining: how long the proxy may take for the answers it still holds.
inline constexpr int64_t drain_without_agent_wait_ms_max = 1'000;
// A dependency or overload fault that comes back within this is the same incident.
inline constexpr int64_t advisory_merge_window_ms = 60'000;

enum class Phase : uint8_t {
  kIdle,             // before start()
  kCheckingState,    // is the state directory fit to start from?
  kStarting,         // start_agent was called
  kWarmingUp,        // runs, not ready yet
  kServing,          // ready (readiness may flap: the gate follows it)
  kRecordingIntent,  // a step was decided and is being written down
  kStoppingAgent,    // ending an agent that is ill
  kBackingOff,       // waiting before the next start
  kRestoring,        // putting a snapshot back
  kDraining,         // told to end, or the agent has finished: last requests
  kTerminating,      // ending the agent for good
  kFinalSnapshot,    // keeping its last state
  kGivingUp,         // alerting
  kFlushing,         // last incident writes
  kFinished,
};
// "idle", "checking_state", … : for status and logs.
std::string_view phase_name(Phase phase);

// What the supervisor acts through. References and pointers must outlive it.
struct SupervisorSeams {
  Loop& loop;
  Orchestrator& orchestrator;
  StateKeeper* state_keeper = nullptr;  // nullptr: no state directory or no store
  IncidentLog& incidents;
  Alerter& alerter;
  GateControl& gate;
  DrainControl& drain;
};

// What the app wires. Each may be left empty. Called on the loop's thread, never from inside a call
// into the supervisor unless noted.
struct SupervisorHooks {
  // An incident was opened, or closed (see its status). For metrics. May run inside observe().
  std::move_only_function<void(const Incident&)> on_incident;
  // Requests that the agent holds, at detection: "POST /invoke, 31.2 s". No query, no secrets.
  std::move_only_function<std::vector<std::string>()> in_flight_requests;
  // Begin and end probing and sampling.
  std::move_only_function<void(const AgentInstance&)> on_agent_started;
  std::move_only_function<void()> on_agent_stopped;
  // Told to end, and the last requests are done: the agent may go now.
  std::move_only_function<void()> on_drained;
  // One last snapshot; the agent has ended. Call done when it is stored or can't be.
  std::move_only_function<void(Task done)> final_snapshot;
  // The end: nothing is running any more.
  std::move_only_function<void(int exit_code)> on_finished;
};

class Supervisor final : private OrchestratorEvents {
 public:
  Supervisor(SupervisorSeams seams, SupervisorOptions options, SupervisorHooks hooks);
  ~Supervisor() override;
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Once.
  void start();

  // What probes, samplers and the proxy see. Starts and exits of the agent and state checks are
  // added by the supervisor itself.
  void observe(const Observation& observation);
  // The agent is ready for requests (startup and readiness probes agree; without any probe: its
  // port accepts), or no longer. May be repeated.
  void on_ready();
  void on_unready(std::string_view reason);

  // The agent's snapshots are another's to write now: an incident that is told and not acted upon.
  void note_store_taken_over(const std::string& why);

  // SIGTERM: drain, stop the agent, last snapshot, on_finished. The second call hastens: no more
  // waiting, SIGKILL, no snapshot.
  void shutdown();

  // Carries it out at once, in place of healing that is under way. Refused (kUnavailable,
  // retryable) while the agent's state is being worked on, or it is ending; kNotFound when there is
  // nothing to restore from.
  void order(AgentOrder order);

  // A reload; takes effect from the next decision on.
  void set_policy(const HealingPolicy& policy);
  void set_detection(const DetectionPolicy& policy) { classifier_.set_policy(policy); }
  // For an end that has not begun.
  void set_end(Duration stop_grace, Duration drain_wait) {
    options_.stop_grace = stop_grace;
    options_.drain_wait = drain_wait;
  }

  Phase phase() const { return phase_; }
  bool serving() const { return gate_open_; }
  const AgentInstance& instance() const { return instance_; }
  // The agent has been asked for: its state was checked, and restored where that was needed.
  bool has_begun() const { return starts_ > 0; }
  // It gave up, and the agent has not been ready since (only without ends_when_giving_up).
  bool gave_up() const { return gave_up_; }
  uint64_t restarts() const { return starts_ == 0 ? 0 : starts_ - 1; }
  // What is not acted upon because healing is paused; nullptr: nothing.
  const Fault* held_fault() const {
    return holds_back() && pending_fault_ ? &*pending_fault_ : nullptr;
  }
  // The incident being healed; nullptr: none.
  const Incident* open_incident() const { return incident_ ? &incident_->record : nullptr; }
  const Classifier& classifier() const { return classifier_; }
  const History& history() const { return history_; }
  // The last one, with the waiting time that it chose.
  const Decision& last_decision() const { return decision_; }

 private:
  enum class AgentState : uint8_t { kNone, kStarting, kRunning };

  struct OpenIncident {
    Incident record;
    Fault fault;
  };
  // A fault that is not acted upon: at most one of a kind is open.
  struct Advisory {
    std::optional<Incident> incident;  // the last one
    MonotonicTime closed_at{};
    bool is_open() const { return incident && incident->status == IncidentStatus::kOpen; }
  };

  // Events.
  void on_agent_started(const AgentInstance& instance) override;
  void on_agent_start_failed(const Error& error) override;
  void on_agent_exited(uint64_t generation, const AgentExit& exit) override;
  void on_state_checked(Result<StateCheck> result);
  void on_restored(Result<RestoredSnapshot> result);
  void on_incident_written(uint64_t write, const Result<void>& result);

  // The state machine.
  void advance();
  Phase next_phase() const;
  Phase next_ending_phase() const;
  bool is_ending() const;
  void enter(Phase phase);
  void enter_checking_state();
  void enter_starting();
  void enter_serving();
  void enter_recording_intent();
  void enter_stopping_agent();
  void enter_backing_off();
  void enter_restoring();
  void enter_draining(Phase from);
  void enter_terminating();
  void enter_final_snapshot();
  void enter_giving_up();
  void enter_finished();
  // wait_over_ becomes true after wait, unless the phase is left before.
  void limit_phase(Duration wait);
  // What a posted completion does: nothing once the supervisor is gone.
  Task later(void (Supervisor::*fact)());
  void note_drained() { drained_ = true; }
  void note_alerted() { alerted_ = true; }
  void note_snapshot_done() { snapshot_done_ = true; }

  // Orders (supervisor_orders.cc).
  bool may_order() const;
  Decision next_decision(MonotonicTime now);
  void answer_order(Result<std::string> outcome);

  // Faults and incidents (supervisor_incidents.cc).
  void take_fault(Fault fault);
  void take_advisory(const Fault& fault);
  bool holds_back() const;
  void forget_what_passed();
  void close_advisories(ClosedReason reason, bool only_quiet);
  Fault fault_of_exit(const AgentExit& exit, std::optional<Fault> found) const;
  void take_up_fault();
  Incident make_incident(const Fault& fault);
  void open_incident(Fault fault);
  void close_incident(ClosedReason reason, std::string outcome);
  void end_step(std::string outcome);
  void add_step(const Decision& decision);
  uint64_t write_incident(const Incident& incident);
  void report(const Incident& incident);
  int64_t unix_ns(MonotonicTime at) const;
  int64_t unix_ns_now() const { return unix_ns(seams_.loop.clock().now()); }

  void set_gate(bool open, std::string_view reason);
  Duration step_time_limit() const;
  void limit_step();

  SupervisorSeams seams_;
  SupervisorOptions options_;
  SupervisorHooks hooks_;
  Classifier classifier_;
  History history_;
  std::optional<OpenIncident> incident_;
  std::array<Advisory, kFaultKindCount> advisories_;
  uint64_t random_state_;
  // Wall minus monotonic time, taken when an incident begins: a clock that is set in the middle of
  // one does not bend its intervals.
  Duration wall_offset_{};

  Phase phase_ = Phase::kIdle;
  bool advancing_ = false;

  // Facts: set by events, read by next_phase().
  bool start_requested_ = false;
  AgentState agent_ = AgentState::kNone;
  bool ready_ = false;
  bool clean_end_ = false;  // it ended by itself with 0
  bool hopeless_ = false;   // the first start found nothing that can be run
  std::optional<Fault> pending_fault_;
  std::optional<std::string> step_failure_;
  std::optional<AgentOrder> order_;  // being carried out
  bool order_decided_ = false;
  std::string order_restored_;
  Decision decision_;
  bool intent_recorded_ = false;
  bool wait_over_ = false;
  bool state_checked_ = false;
  bool restored_ = false;
  bool keeper_busy_ = false;
  bool drained_ = false;
  bool alerted_ = false;
  bool snapshot_done_ = false;
  uint32_t stops_requested_ = 0;

  AgentInstance instance_;  // the last one
  std::optional<AgentExit> last_exit_;
  bool stop_sent_ = false;  // its end was asked for
  bool snapshot_wanted_ = true;
  MonotonicTime decided_at_{};
  uint64_t writes_begun_ = 0;
  uint64_t writes_done_ = 0;
  uint64_t intent_write_ = 0;  // the one that enter_recording_intent waits for
  bool gate_open_ = false;
  bool gave_up_ = false;
  bool gave_up_state_ = false;  // the last time, on damaged state
  uint64_t starts_ = 0;
  int exit_code_ = 0;
  MonotonicTime start_began_at_{};
  Duration longest_start_{};
  Subscription phase_timer_;
  Subscription step_timer_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace remora
