// What somebody asks of the agent outside of healing: a restart, or an older state. It goes the way
// of a fault, so that callers wait, the step is written down first and the agent is checked; but
// the first step is the one that was asked for.
#include <utility>

#include <fmt/format.h>

#include "sidecar/heal/supervisor.h"

namespace remora {
namespace {

std::unexpected<Error> refused(ErrorCode code, std::string why) {
  return make_error(code, ErrorSource::kAgent, std::move(why), code == ErrorCode::kUnavailable);
}

}  // namespace

// Between the steps of healing, or beside it. While state is looked at, put back or written about
// nothing can be changed.
bool Supervisor::may_order() const {
  if (stops_requested_ > 0 || clean_end_ || hopeless_ || order_ || pending_fault_) return false;
  switch (phase_) {
    case Phase::kStarting:
    case Phase::kWarmingUp:
    case Phase::kServing:
    case Phase::kBackingOff:
      return true;
    case Phase::kGivingUp:
      return !options_.ends_when_giving_up;
    default:
      return false;
  }
}

void Supervisor::order(AgentOrder order) {
  const auto answer = [&](std::unexpected<Error> error) {
    seams_.loop.post([done = std::move(order.done), error = std::move(error)]() mutable {
      done(std::move(error));
    });
  };
  if (order.restore && seams_.state_keeper == nullptr) {
    return answer(refused(ErrorCode::kNotFound,
                          "the agent has no snapshots: name its state with remora.dev/state-dir"));
  }
  if (!may_order()) {
    return answer(refused(
        ErrorCode::kUnavailable,
        fmt::format("the agent can't be disturbed now ({}); ask again", phase_name(phase_))));
  }
  const MonotonicTime now = seams_.loop.now();
  const std::string what = order.restore ? "restore" : "restart";
  const std::string summary = fmt::format("{} was asked for: {}", what, order.why);
  pending_fault_ = Fault{FaultKind::kRequested, summary, {{"request", summary}}, now, now};
  order_ = std::move(order);
  order_decided_ = false;
  advance();
}

Decision Supervisor::next_decision(MonotonicTime now) {
  if (!order_ || std::exchange(order_decided_, true)) {
    return decide(incident_->fault, history_, options_.policy, now);
  }
  const HealAction action =
      order_->restore ? HealAction::kRestoreThenRestart : HealAction::kRestart;
  return {action, Duration{0}, 0, incident_->fault.summary};
}

void Supervisor::answer_order(Result<std::string> outcome) {
  if (!order_) return;
  AgentOrder order = std::move(*order_);
  order_.reset();
  seams_.loop.post([done = std::move(order.done), outcome = std::move(outcome)]() mutable {
    done(std::move(outcome));
  });
}

}  // namespace remora
