// fork and exec of the agent, with everything that must be right between the two.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "sidecar/base/error.h"
#include "sidecar/base/handle.h"

namespace remora {

struct SpawnPlan {
  std::vector<std::string> command;      // never empty
  std::vector<std::string> environment;  // complete: "NAME=value"
  std::string working_dir;               // empty: stay
};

struct Spawned {
  pid_t pid = 0;
  UniqueFd pidfd;
  UniqueFd standard_output;  // non-blocking
  UniqueFd standard_error;   // non-blocking
  UniqueFd exec_report;      // readable once it is known whether exec worked: read_exec_report()
};

// Starts a process with its own session and group, stdin from /dev/null, signals as by default, and
// SIGKILL when the calling thread ends. A command without '/' is looked up in the PATH of its
// environment; with one it is relative to the working directory. kNotFound when no PATH entry has
// it; otherwise retryable errors of the kernel (processes, descriptors, memory).
Result<Spawned> spawn_agent(const SpawnPlan& plan);

// After exec_report became readable: nothing when the command runs, else why not. The child has
// then ended and waits to be collected.
std::optional<Error> read_exec_report(int exec_report, const SpawnPlan& plan);

// environ with additions ("NAME=value"), which win.
std::vector<std::string> environment_with(const std::vector<std::string>& additions);

}  // namespace remora
