// CPU time of whole processes, to the nanosecond, from the scheduler's own accounts.
#pragma once

#include <vector>

#include "sidecar/base/clock.h"
#include "sidecar/base/error.h"

namespace remora::bench {

// Time on a core of all threads that these processes have now (/proc/PID/task/*/schedstat, first
// field). kNotFound when one of them is gone.
Result<Duration> cpu_time(const std::vector<int>& pids);

}  // namespace remora::bench
