// What must hold whatever happens to the agent. Checked after every event of a simulated life,
// from what can be seen outside the supervisor; none of it shares code with what it checks.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "sidecar/heal/supervisor.h"
#include "tests/fakes/fake_heal_seams.h"
#include "tests/fakes/fake_loop.h"
#include "tests/fakes/fake_orchestrator.h"

namespace remora::simulation {

class HealChecks {
 public:
  HealChecks(const Supervisor& supervisor, const FakeOrchestrator& orchestrator,
             const FakeIncidentLog& log, const FakeGate& gate, const HealingPolicy& policy)
      : supervisor_(supervisor),
        orchestrator_(orchestrator),
        log_(log),
        gate_(gate),
        policy_(policy) {}

  // Something was done to the agent that healing may answer.
  void note_fault() { ++faults_; }
  // Remora was asked to stop.
  void note_stop() { stop_asked_ = true; }
  void note_incident(const Incident& incident);
  // The log fails or is stuck: intents may be lost.
  void note_disk_trouble() { disk_trouble_ = true; }

  // Nothing when all is well.
  const std::string& after_event(MonotonicTime now);
  const std::string& at_end();

 private:
  void fail(std::string what) {
    if (failure_.empty()) failure_ = std::move(what);
  }
  void check_starts();
  void check_stops();
  void check_decision(MonotonicTime now);
  void check_gate(MonotonicTime now);
  void check_intent(std::string_view effect);

  const Supervisor& supervisor_;
  const FakeOrchestrator& orchestrator_;
  const FakeIncidentLog& log_;
  const FakeGate& gate_;
  const HealingPolicy& policy_;
  std::string failure_;

  uint64_t faults_ = 0;
  uint64_t faults_at_last_decision_ = 0;
  bool stop_asked_ = false;
  bool disk_trouble_ = false;
  size_t starts_seen_ = 0;
  size_t stops_seen_ = 0;
  size_t decisions_seen_ = 0;
  std::optional<Duration> last_delay_;
  std::optional<MonotonicTime> up_since_;  // serving since
  bool was_stable_ = false;                // up for stable_after since the last decision
  bool gave_up_ = false;
  std::map<std::string, IncidentStatus> incidents_;
};

}  // namespace remora::simulation
