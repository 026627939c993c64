// Brings the rules in force in this network namespace to what the options say, and says whether
// they are. The only place that decides between doing nothing, refilling and replacing.
#pragma once

#include <string>
#include <vector>

#include "sidecar/base/clock.h"
#include "sidecar/base/error.h"
#include "sidecar/intercept/compare.h"
#include "sidecar/intercept/options.h"

namespace remora::intercept {

// Other writers of nf_tables can make an attempt void or a reading inconsistent. We try again so
// long and so often; each attempt is done as a whole or not at all.
inline constexpr int apply_wait_ms_max = 30'000;
inline constexpr int apply_attempts_max = 1000;
inline constexpr int apply_pause_ms = 20;
// Several `remora intercept` at once take turns; with different options they would otherwise keep
// overwriting each other before either has read back what it wrote. Whoever waits so long goes on:
// the turn is a courtesy, each writing is whole without it, and an agent could refuse to yield it.
inline constexpr int turn_wait_ms_max = 5000;

struct ApplyReport {
  bool changed = false;  // false: the rules were in force already and nothing was written
  int attempts = 0;
  std::vector<std::string> notes;  // earlier_chains()
};

// Success means that exactly our rules were read back after they were written. kPermission and
// kUnavailable say what this container or kernel lacks.
Result<ApplyReport> apply(const InterceptOptions& options, const Clock& clock);

struct CheckReport {
  std::vector<std::string> problems;  // empty: ours and complete
  std::vector<std::string> notes;
};
Result<CheckReport> check(const InterceptOptions& options, const Clock& clock);

// Removes our table; whether there was one.
Result<bool> remove(const Clock& clock);

// The network namespace that the machine started with: rules in it would catch a whole node's
// traffic. The kernel shows some settings there only.
bool is_initial_network_namespace();

}  // namespace remora::intercept
