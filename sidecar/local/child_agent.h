// The agent as a child process: started, watched, listened to, and ended without leftovers.
//
// - Own session and process group, stdin /dev/null, signals as by default. It gets SIGKILL when
//   Remora dies, however Remora dies.
// - Its end is seen at once (pidfd). on_agent_exited comes once nothing of it is left: its group
// and
//   session, everything below it, and what left them but carries its mark in the environment are
//   killed and reaped. A process that left the session, lost its parent and scrubbed its
//   environment can't be told from a stranger: it is reaped when it ends, not killed.
// - Remora is the subreaper, so what the agent orphans is reaped here. Zombies that nobody collects
//   within orphan_reap_after_ms are orphans; whoever starts processes elsewhere in Remora (probes,
//   alerts) collects its own sooner.
// - Output is read in bounded pieces and logged line by line ("agent_output": stream, generation,
//   line). An agent that floods costs log lines, never memory, and is never blocked by Remora.
//
// Loop thread only; one ChildAgent per process.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sidecar/heal/orchestrator.h"
#include "sidecar/net/loop.h"

namespace remora {

inline constexpr int64_t orphan_reap_after_ms = 2'000;
// Processes in an uninterruptible sleep don't die: after this they are left behind, and logged.
inline constexpr int64_t leftovers_wait_ms_max = 3'000;

struct ChildAgentOptions {
  std::vector<std::string> command;      // program and arguments; never empty
  std::vector<std::string> environment;  // "NAME=value": added to Remora's own, which it overrides
  std::string working_dir;               // empty: Remora's own
  size_t log_tail_bytes = 16 * 1024;     // kept of each of the last two instances
};

class ChildAgent final : public Orchestrator {
 public:
  ChildAgent(Loop& loop, ChildAgentOptions options);
  // Kills what still runs.
  ~ChildAgent() override;
  ChildAgent(const ChildAgent&) = delete;
  ChildAgent& operator=(const ChildAgent&) = delete;

  void set_events(OrchestratorEvents& events) override;
  void start_agent() override;
  void stop_agent(Duration grace) override;
  std::string log_tail(uint64_t generation) const override;

  // For the next start (a reload).
  void set_options(ChildAgentOptions options);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace remora
