// Budgets that several policies share: of a namespace, and of the fleet (the whole cluster). What
// has been taken of them stands in the Incidents. Pure.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "sidecar/base/clock.h"

namespace remora::k8s {

struct IncidentRecord;

struct BudgetRule {
  int steps_max = 0;
  Duration window{};
  // A budget that was used up means a storm: from then on nothing is done for this long.
  Duration cool_down{};
};

// The steps of one Incident that disturb.
struct StepsTaken {
  std::vector<WallTime> ended{};
  int intended = 0;
};
StepsTaken steps_taken(const IncidentRecord& incident);

// The steps of all Incidents of the fleet, kept up to date as those change, so that a look at one
// namespace costs nothing for the Incidents of all others.
class StepLedger {
 public:
  // key: of the Incident, its namespace included.
  void put(const std::string& key, const IncidentRecord& incident);
  void remove(const std::string& key);
  // Those that may count for the rule at this moment; intended ones as now.
  std::vector<WallTime> taken(const BudgetRule& rule, WallTime now) const;

 private:
  std::map<std::string, StepsTaken> by_incident_;
  std::multiset<WallTime> ended_;
  int intended_ = 0;
};

// When the steps of these Incidents were done that disturb; one that is intended counts as now,
// for as long as it is, for it may be done at any moment.
std::vector<WallTime> steps_taken(const std::map<std::string, IncidentRecord>& incidents,
                                  WallTime now);

// Why no further step may be taken; empty: one may. whose: "the namespace".
std::string budget_hold(const std::string& whose, const BudgetRule& rule,
                        std::vector<WallTime> taken, WallTime now);

}  // namespace remora::k8s
