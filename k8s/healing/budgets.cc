#include "k8s/healing/budgets.h"

#include <algorithm>

#include "k8s/healing/plan.h"

namespace remora::k8s {

std::vector<WallTime> steps_taken(const std::map<std::string, IncidentRecord>& incidents,
                                  WallTime now) {
  std::vector<WallTime> taken;
  for (const auto& [name, incident] : incidents) {
    for (const v1alpha1::IncidentStep& step : incident.status.steps()) {
      if (!disturbs(step.name()) || step.state() == "skipped") continue;
      const auto ended = parse_time(step.ended_at());
      if (step.state() == "intended") taken.push_back(now);
      if (step.state() != "intended" && ended) taken.push_back(*ended);
    }
  }
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
