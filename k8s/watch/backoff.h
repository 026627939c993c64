// Growing pauses with jitter, so that many who failed together don't come back together. Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>

#include "sidecar/base/clock.h"

namespace remora::k8s {

struct BackoffRules {
  Duration base;
  Duration max;
};

// The n-th pause in a row, from 0: base doubled n times, at most max, and then anything from half
// of that to all of it.
inline Duration backoff_pause(const BackoffRules& rules, uint32_t n, std::minstd_rand& random) {
  constexpr uint32_t doublings_max = 30;
  const Duration grown = rules.base * (int64_t{1} << std::min(n, doublings_max));
  const Duration whole = std::clamp(grown, rules.base, rules.max);
  std::uniform_int_distribution<int64_t> half(0, whole.count() / 2);
  return whole - Duration(half(random));
}

}  // namespace remora::k8s
