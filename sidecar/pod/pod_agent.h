// The agent as a container beside us: somebody else (the kubelet, a container runtime's restart
// policy) starts it, and starts it again after it has ended. We share its PID namespace, find its
// first process by a mark in the environment, and heal it by ending it.
//
// The startup gate. A container that is restarted begins at once, but its state may have to be
// checked and restored first. So while no start has been asked for, a new instance is stopped
// (SIGSTOP) as soon as it is seen, within pod_look_interval_ms of its exec, and continued by
// start_agent(). A guard process continues it should Remora die meanwhile. An instance that is not
// the leader of its process group can't be held; it runs, and that is logged.
//
// The exit code of a process that is not our child is known from its zombie in /proc, if it is seen
// before its parent collects it, or from its pidfd (Linux 6.15); otherwise it is unknown. What the
// agent prints is the runtime's to collect: log_tail is always empty.
//
// Loop thread only.
#pragma once

#include <csignal>
#include <memory>
#include <optional>
#include <string>

#include "sidecar/heal/orchestrator.h"
#include "sidecar/net/loop.h"

namespace remora {

// Between two looks for a new instance while there is none.
inline constexpr int pod_look_interval_ms = 10;
// How long an instance is held at most; then it begins with the state as it is.
inline constexpr int pod_hold_ms_max = 600'000;
// For the exit code to become known.
inline constexpr int pod_exit_code_wait_ms_max = 1'000;

// How long a kubelet waits, at its defaults, before it starts a container again that has ended so
// often in a row: not at all the first time, then 10 s, doubled each time up to 300 s.
Duration kubelet_backoff(uint32_t ends_in_a_row);
// It starts afresh when a container has run for twice its longest wait.
inline constexpr int64_t kubelet_backoff_forgotten_ms = 600'000;

struct PodAgentOptions {
  // The agent's container has REMORA_AGENT=<container> in its environment.
  std::string container;
  // Whoever starts it may do so only after some ends: how it is asked to end, and how long is
  // waited before SIGKILL instead of the grace that stop_agent() gives.
  int stop_signal = SIGTERM;
  std::optional<Duration> stop_grace{};
};

class PodAgent final : public Orchestrator {
 public:
  PodAgent(Loop& loop, PodAgentOptions options);
  ~PodAgent() override;
  PodAgent(const PodAgent&) = delete;
  PodAgent& operator=(const PodAgent&) = delete;

  // The pod is being ended by whoever runs it: stop_agent sends no signal any more, it waits. An
  // agent that gets a second SIGTERM often takes it for impatience.
  void leave_stopping_to_others();

  // Orchestrator
  void set_events(OrchestratorEvents& events) override;
  // Lets the next instance begin; on_agent_started comes once there is one.
  void start_agent() override;
  void stop_agent(Duration grace) override;
  std::string log_tail(uint64_t generation) const override;
  bool started_by_others() const override { return true; }
  std::string waits_for() const override;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace remora
