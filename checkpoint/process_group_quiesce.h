// Makes an agent stand still by stopping its process group, with a guard: a tiny child process that
// continues the group when we die or when stop_max has passed. Whatever happens to the sidecar, the
// agent is never left stopped.
#pragma once

#include <sys/types.h>

#include "checkpoint/capture.h"
#include "sidecar/base/clock.h"

namespace remora::checkpoint {

// How long to wait for every thread of the group to have stopped. One that is in an
// uninterruptible system call may take longer; the capture then goes on as if unstopped.
inline constexpr int stop_settle_ms_max = 100;

// pgid: the agent's process group, greater than 1 and not our own. stop_max: 1 ms to 10 s. The
// clock must outlive the result. stop() succeeds without effect when the group is gone.
Quiesce process_group_quiesce(pid_t pgid, Duration stop_max, const Clock& clock);

}  // namespace remora::checkpoint
