#include "k8s/healing/budgets.h"

#include <algorithm>

#include "k8s/healing/plan.h"

namespace remora::k8s {

StepsTaken steps_taken(const IncidentRecord& incident) {
  StepsTaken taken;
  for (const v1alpha1::IncidentStep& step : incident.status.steps()) {
    if (!disturbs(step.name()) || step.state() == "skipped") continue;
    const auto ended = parse_time(step.ended_at());
    if (step.state() == "intended") {
      ++taken.intended;
    } else if (ended) {
      taken.ended.push_back(*ended);
    }
  }
  return taken;
}

std::vector<WallTime> steps_taken(const std::map<std::string, IncidentRecord>& incidents,
                                  WallTime now) {
  std::vector<WallTime> taken;
  for (const auto& [name, incident] : incidents) {
    const StepsTaken own = steps_taken(incident);
    taken.insert(taken.end(), own.ended.begin(), own.ended.end());
    taken.insert(taken.end(), static_cast<size_t>(own.intended), now);
  }
  return taken;
}

void StepLedger::put(const std::string& key, const IncidentRecord& incident) {
  remove(key);
  StepsTaken steps = steps_taken(incident);
  if (steps.ended.empty() && steps.intended == 0) return;
  ended_.insert(steps.ended.begin(), steps.ended.end());
  intended_ += steps.intended;
  by_incident_[key] = std::move(steps);
}

void StepLedger::remove(const std::string& key) {
  const auto known = by_incident_.extract(key);
  if (known.empty()) return;
  intended_ -= known.mapped().intended;
  for (const WallTime at : known.mapped().ended) ended_.erase(ended_.find(at));
}

std::vector<WallTime> StepLedger::taken(const BudgetRule& rule, WallTime now) const {
  // A moment of the cool-down looks back by one window.
  std::vector<WallTime> taken(ended_.lower_bound(now - rule.window - rule.cool_down), ended_.end());
  taken.insert(taken.end(), static_cast<size_t>(intended_), now);
  return taken;
}

std::string budget_hold(const std::string& whose, const BudgetRule& rule,
                        std::vector<WallTime> taken, WallTime now) {
  std::ranges::sort(taken);
  const auto in_window =
      std::ranges::count_if(taken, [&](WallTime at) { return now - at < rule.window; });
  const std::string budget =
      "the budget of " + whose + ", " + std::to_string(rule.steps_max) + " steps,";
  if (in_window >= rule.steps_max) return budget + " is used up";
  // The last moment at which it was.
  const auto n = static_cast<size_t>(rule.steps_max);
  for (size_t last = taken.size(); last >= n && last > 0; --last) {
    const WallTime at = taken[last - 1];
    if (now - at >= rule.cool_down) break;
    if (at - taken[last - n] < rule.window) return budget + " was used up: cooling down";
  }
  return {};
}

}  // namespace remora::k8s
