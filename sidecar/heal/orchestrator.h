// The seam to whatever runs the agent: a child process (sidecar/local), later the Docker Engine and
// Kubernetes. All calls and events on the loop's thread; events are never made from inside a call.
#pragma once

#include <cstdint>
#include <string>

#include <sys/types.h>

#include "sidecar/base/clock.h"
#include "sidecar/base/error.h"

namespace remora {

struct AgentInstance {
  uint64_t generation = 0;  // 1 for the first start, then one more each
  pid_t pid = 0;
};

// Nobody could say how it ended: only a parent is told by every kernel.
inline constexpr int exit_code_unknown = -1;

struct AgentExit {
  int exit_code = 0;  // as a shell shows it: 128 + signal when killed by one; or exit_code_unknown
  int signal = 0;     // 0 when it exited by itself
  // Evidence that the kernel's OOM killer did it: the cgroup's oom_kill counter rose.
  bool oom_killed = false;
};

class OrchestratorEvents {
 public:
  virtual ~OrchestratorEvents() = default;
  virtual void on_agent_started(const AgentInstance& instance) = 0;
  // Start failed for good (command not found, not executable): nothing runs.
  virtual void on_agent_start_failed(const Error& error) = 0;
  // Seen at once (pidfd), reaped, and nothing of its process group is left.
  virtual void on_agent_exited(uint64_t generation, const AgentExit& exit) = 0;
};

class Orchestrator {
 public:
  virtual ~Orchestrator() = default;
  virtual void set_events(OrchestratorEvents& events) = 0;
  // Asks for a new instance. Only when none runs.
  virtual void start_agent() = 0;
  // SIGTERM to the process group, SIGKILL after grace; ends with on_agent_exited. grace 0: SIGKILL
  // at once. Calling it again with a shorter grace shortens it. One that was asked for and has not
  // come: it is not waited for any more, which ends with on_agent_start_failed (kCancelled).
  virtual void stop_agent(Duration grace) = 0;
  // The last lines that an instance printed (stdout and stderr, newest last), at most log_tail
  // bytes kept; empty for unknown generations. The last two instances are kept.
  virtual std::string log_tail(uint64_t generation) const = 0;
  // Somebody else decides when an instance starts (a kubelet with its back-off): start_agent() lets
  // the next one begin, however long that takes.
  virtual bool started_by_others() const { return false; }
  // What the start that was asked for waits for, in words for `status`; empty: for nothing.
  virtual std::string waits_for() const { return {}; }
};

}  // namespace remora
