#include "sidecar/heal/decide.h"

#include <algorithm>

#include <fmt/format.h>

namespace remora {
namespace {

constexpr size_t index_of(FaultKind kind) { return static_cast<size_t>(kind); }

bool is_attempt(const HealRecord& record) {
  return !record.superseded && (record.action == HealAction::kRestart ||
                                record.action == HealAction::kRestoreThenRestart);
}

// The first record that still counts: everything up to the last stable period is forgiven.
size_t episode_begin(const std::vector<HealRecord>& records, Duration stable_after,
                     MonotonicTime now) {
  for (size_t i = records.size(); i > 0; --i) {
    const HealRecord& record = records[i - 1];
    if (record.ready_at && record.failed_at.value_or(now) - *record.ready_at >= stable_after) {
      return i;
    }
  }
  return 0;
}

Duration backoff(const HealingPolicy& policy, size_t attempts) {
  if (attempts == 0) return policy.backoff_base;
  Duration delay = policy.backoff_step;
  for (size_t i = 1; i < attempts && delay < policy.backoff_max; ++i) delay *= 2;
  return std::max(policy.backoff_base, std::min(delay, policy.backoff_max));
}

bool restore_may_work(std::span<const HealRecord> episode, const HealingPolicy& policy) {
  if (!policy.can_restore) return false;
  for (size_t i = episode.size(); i > 0; --i) {
    if (episode[i - 1].action == HealAction::kRestoreThenRestart) {
      return !episode[i - 1].nothing_to_restore;
    }
  }
  return true;
}

// The place in the ladder to try now; the ladder's size when nothing in it can be done.
size_t choose_step(const Ladder& ladder, std::span<const HealRecord> episode, FaultKind kind,
                   bool may_restore) {
  size_t step = 0;
  for (const HealRecord& record : episode) {
    if (record.fault == kind && !record.superseded) step = record.step + 1;
  }
  step = std::min(step, ladder.size() - 1);
  const auto usable = [may_restore](HealStep s) { return may_restore || s != HealStep::kRestore; };
  for (size_t i = step; i < ladder.size(); ++i) {
    if (usable(ladder[i])) return i;
  }
  // Past the end the last step repeats: the last that can be done.
  for (size_t i = step; i > 0; --i) {
    if (usable(ladder[i - 1])) return i - 1;
  }
  return ladder.size();
}

Decision give_up(size_t step, std::string reason) {
  return {HealAction::kGiveUp, Duration{0}, step, std::move(reason)};
}

}  // namespace

std::string_view heal_step_name(HealStep step) {
  switch (step) {
    case HealStep::kRestart:
      return "restart";
    case HealStep::kRestore:
      return "restore";
    case HealStep::kGiveUp:
      break;
  }
  return "give_up";
}

std::optional<HealStep> heal_step_from_name(std::string_view name) {
  for (const HealStep step : {HealStep::kRestart, HealStep::kRestore, HealStep::kGiveUp}) {
    if (name == heal_step_name(step)) return step;
  }
  return std::nullopt;
}

std::string_view heal_action_name(HealAction action) {
  switch (action) {
    case HealAction::kNone:
      return "none";
    case HealAction::kRestart:
      return "restart";
    case HealAction::kRestoreThenRestart:
      return "restore_then_restart";
    case HealAction::kGiveUp:
      break;
  }
  return "give_up";
}

std::optional<HealAction> heal_action_from_name(std::string_view name) {
  for (const HealAction action : {HealAction::kNone, HealAction::kRestart,
                                  HealAction::kRestoreThenRestart, HealAction::kGiveUp}) {
    if (name == heal_action_name(action)) return action;
  }
  return std::nullopt;
}

Ladders default_ladders() {
  const Ladder restarts = {HealStep::kRestart, HealStep::kRestart, HealStep::kRestart,
                           HealStep::kRestore, HealStep::kRestart};
  Ladders ladders;
  for (const FaultKind kind : {FaultKind::kCrash, FaultKind::kResourceExhaustion,
                               FaultKind::kDeadlock, FaultKind::kHang}) {
    ladders[index_of(kind)] = restarts;
  }
  ladders[index_of(FaultKind::kStateDamaged)] = {HealStep::kRestore, HealStep::kRestore,
                                                 HealStep::kGiveUp};
  // Where what was asked for has failed, the agent is to run again all the same.
  ladders[index_of(FaultKind::kRequested)] = {HealStep::kRestart};
  return ladders;
}

void History::note_decided(FaultKind fault, size_t step, HealAction action, MonotonicTime now) {
  if (records_.size() == records_max) records_.erase(records_.begin());
  HealRecord record;
  record.fault = fault;
  record.step = step;
  record.action = action;
  record.decided_at = now;
  records_.push_back(record);
}

void History::note_started(MonotonicTime now) {
  if (!records_.empty() && !records_.back().started_at) records_.back().started_at = now;
}

void History::note_ready(MonotonicTime now) {
  if (!records_.empty() && !records_.back().ready_at) records_.back().ready_at = now;
}

void History::note_fault(MonotonicTime now) {
  if (records_.empty()) return;
  HealRecord& last = records_.back();
  if (last.ready_at && !last.failed_at) last.failed_at = now;
}

void History::note_nothing_to_restore() {
  if (!records_.empty()) records_.back().nothing_to_restore = true;
}

void History::note_superseded() {
  if (!records_.empty() && !records_.back().started_at) records_.back().superseded = true;
}

Decision decide(const Fault& fault, const History& history, const HealingPolicy& policy,
                MonotonicTime now) {
  const std::string_view kind = fault_kind_name(fault.kind);
  if (is_advisory(fault.kind)) {
    return {HealAction::kNone, Duration{0}, 0,
            fmt::format("{}: a restart of the agent would not help; recorded only", kind)};
  }
  const Ladder& ladder = policy.ladders[index_of(fault.kind)];
  if (ladder.empty()) return give_up(0, fmt::format("{}: its ladder has no steps", kind));

  const std::span<const HealRecord> records(history.records());
  const auto episode = records.subspan(episode_begin(history.records(), policy.stable_after, now));
  const bool may_restore = restore_may_work(episode, policy);
  const size_t step = choose_step(ladder, episode, fault.kind, may_restore);
  if (step == ladder.size()) {
    return give_up(step - 1, fmt::format("{}: there is no snapshot to restore", kind));
  }
  const std::string place = fmt::format("step {} of {}", step + 1, ladder.size());
  if (ladder[step] == HealStep::kGiveUp) {
    return give_up(step, fmt::format("{}: its ladder ends here ({})", kind, place));
  }

  const auto attempts =
      static_cast<size_t>(std::count_if(episode.begin(), episode.end(), is_attempt));
  const Duration delay = backoff(policy, attempts);
  const MonotonicTime window_begin = now + delay - policy.restarts_window;
  const auto starts = static_cast<size_t>(
      std::count_if(records.begin(), records.end(), [window_begin](const HealRecord& r) {
        // A step that never came to a start (a restore that failed) is spent as well.
        return is_attempt(r) && r.started_at.value_or(r.decided_at) >= window_begin;
      }));
  if (starts >= policy.restarts_max) {
    return give_up(step, fmt::format("{}: {} restarts within {:g} s, the budget is spent", kind,
                                     starts, to_seconds(policy.restarts_window)));
  }
  const HealAction action =
      ladder[step] == HealStep::kRestore ? HealAction::kRestoreThenRestart : HealAction::kRestart;
  return {action, delay, step,
          fmt::format("{}, attempt {}: {} after {:g} s ({})", kind, attempts + 1,
                      action == HealAction::kRestart ? "restart" : "restore, then restart",
                      to_seconds(delay), place)};
}

}  // namespace remora
