// What to do about a fault. Pure: no I/O and no clock, so a simulation can run years of faults from
// a seed.
//
// What it promises
// - Dependency and overload faults never touch the agent.
// - At most restarts_max starts within any window (a step that failed before its start counts as
//   one): past it, give up. The budget is never reset.
// - The waiting time before a start only grows until the agent has been well for stable_after.
// - The same fault coming back climbs its ladder one step at a time; stable_after puts it back to
//   the bottom.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/base/clock.h"
#include "sidecar/health/fault.h"

namespace remora {

enum class HealStep : uint8_t {
  kRestart,  // "restart"
  kRestore,  // "restore": put the latest intact snapshot back, then start
  kGiveUp,   // "give_up"
};
std::string_view heal_step_name(HealStep step);
// nullopt for any other text.
std::optional<HealStep> heal_step_from_name(std::string_view name);

enum class HealAction : uint8_t {
  kNone,                // "none": record, alert, leave the agent alone
  kRestart,             // "restart"
  kRestoreThenRestart,  // "restore_then_restart"
  kGiveUp,              // "give_up"
};
std::string_view heal_action_name(HealAction action);
std::optional<HealAction> heal_action_from_name(std::string_view name);

using Ladder = std::vector<HealStep>;
using Ladders = std::array<Ladder, kFaultKindCount>;  // by FaultKind
// crash                restart, restart, restart, restore, restart
// resource_exhaustion  restart, restart, restart, restore, restart
// deadlock, hang       restart, restart, restart, restore, restart
// state_damaged        restore, restore, give_up
// dependency, overload, store_taken_over (none: never acted upon)
// requested            restart (once what was asked for has failed)
// The first restarts are cheap and lose nothing. Three in a row that did not last point at the
// state, so the next one goes back to a snapshot, once: it costs the work since then. What then
// still fails is restarted at the back-off's pace until the budget says stop.
Ladders default_ladders();

struct HealingPolicy {
  // Climbed as the same fault comes back. One that ends without kGiveUp repeats its last step.
  Ladders ladders = default_ladders();
  // Waiting time before a start, counted from the decision: base for the first, step for the
  // second, then doubled each time, at most max (and never less than base).
  Duration backoff_base{0};
  Duration backoff_step = std::chrono::seconds(1);
  Duration backoff_max = std::chrono::seconds(60);
  // At most so many starts within any window of this length.
  uint32_t restarts_max = 10;
  Duration restarts_window = std::chrono::minutes(10);
  // From the start to ready; past it the step has failed and the next one is tried. (Used by the
  // supervisor.)
  Duration step_timeout = std::chrono::seconds(60);
  Duration stable_after = std::chrono::minutes(10);
  // Nothing is done to an agent that runs. (Used by the supervisor.)
  bool paused = false;
  // There is a store to restore from. Without one kRestore steps are passed over.
  bool can_restore = true;
};

// One thing that was done.
struct HealRecord {
  FaultKind fault = FaultKind::kCrash;
  size_t step = 0;  // its place in that fault's ladder
  HealAction action = HealAction::kNone;
  MonotonicTime decided_at;
  std::optional<MonotonicTime> started_at;  // the agent was started; absent: not (yet)
  std::optional<MonotonicTime> ready_at;    // the step worked
  std::optional<MonotonicTime> failed_at;   // the next fault after ready_at
  bool nothing_to_restore = false;          // the store holds no intact snapshot
  bool superseded = false;                  // another fault took over before the start
};

// What was done so far, oldest first. Bounded: what neither budget nor ladder can need is dropped.
class History {
 public:
  static constexpr size_t records_max = 2048;

  const std::vector<HealRecord>& records() const { return records_; }
  // A step was decided upon: the other notes are about this one.
  void note_decided(FaultKind fault, size_t step, HealAction action, MonotonicTime now);
  void note_started(MonotonicTime now);
  void note_ready(MonotonicTime now);
  void note_fault(MonotonicTime now);
  void note_nothing_to_restore();
  // Another fault took over. A step that had not come to its start yet is as if never decided.
  void note_superseded();

 private:
  std::vector<HealRecord> records_;
};

struct Decision {
  HealAction action = HealAction::kNone;
  Duration delay{0};   // from now until the agent is started
  size_t step = 0;     // place in the fault's ladder, for History
  std::string reason;  // one line: "crash, attempt 2: restart after 1 s (step 2 of 5)"
};

// fault: as just detected, or that of the step that has just failed.
Decision decide(const Fault& fault, const History& history, const HealingPolicy& policy,
                MonotonicTime now);

}  // namespace remora
