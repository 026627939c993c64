// How it ends: asked to, hastened, or by the agent's own will, from every phase.
#include "tests/unit/heal/supervisor_fixture.h"

namespace remora {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST_F(SupervisorTest, ShutdownDrainsStopsSnapshotsAndEnds) {
  options_.stop_grace = 7s;
  drain_.requests_take = 3s;
  serve();
  supervisor_->shutdown();
  EXPECT_EQ(phase(), Phase::kDraining);
  EXPECT_THAT(drain_.waits, ElementsAre(options_.drain_wait));
  EXPECT_TRUE(gate_.up) << "requests in flight still need the agent";
  loop_.run_for(2900ms);
  EXPECT_THAT(orchestrator_.stops, IsEmpty());
  loop_.run_for(101ms);
  EXPECT_THAT(orchestrator_.stops, ElementsAre(7s));
  run_to_end();
  EXPECT_EQ(exit_code_, 0) << "it ended by our SIGTERM, as asked";
  EXPECT_EQ(snapshots_, 1);
  EXPECT_THAT(reported_, IsEmpty());
}

TEST_F(SupervisorTest, ADrainThatNeverFinishesIsCutOff) {
  drain_.stuck = true;
  serve();
  supervisor_->shutdown();
  run_to_end(options_.drain_wait + 2s);
  EXPECT_EQ(exit_code_, 0);
}

TEST_F(SupervisorTest, ASnapshotThatHangsIsCutOff) {
  snapshot_stuck_ = true;
  serve();
  supervisor_->shutdown();
  run_to_end(std::chrono::milliseconds(final_snapshot_wait_ms_max) + 2s);
  EXPECT_EQ(exit_code_, 0);
}

TEST_F(SupervisorTest, AnAgentThatCrashesWhileDrainingIsNotRestarted) {
  drain_.requests_take = 10s;
  serve();
  supervisor_->shutdown();
  loop_.run_for(1s);
  orchestrator_.exit_agent(139, 11);
  run_to_end(5s);
  EXPECT_EQ(exit_code_, 139);
  EXPECT_EQ(orchestrator_.starts.size(), 1u);
  EXPECT_THAT(
      drain_.waits,
      ElementsAre(options_.drain_wait, std::chrono::milliseconds(drain_without_agent_wait_ms_max)));
}

TEST_F(SupervisorTest, ASecondSignalHastens) {
  drain_.requests_take = 1h;
  options_.drain_wait = 1h;
  options_.stop_grace = 1h;
  orchestrator_.ignores_sigterm = true;
  serve();
  supervisor_->shutdown();
  loop_.run_for(1s);
  supervisor_->shutdown();
  run_to_end(1s);
  EXPECT_THAT(orchestrator_.stops, ElementsAre(0s));
  EXPECT_EQ(exit_code_, 137);
  EXPECT_EQ(snapshots_, 0);
}

TEST_F(SupervisorTest, ASecondSignalHastensAStopUnderWay) {
  options_.stop_grace = 1h;
  orchestrator_.ignores_sigterm = true;
  serve();
  supervisor_->shutdown();
  loop_.run_for(1s);
  ASSERT_EQ(phase(), Phase::kTerminating);
  supervisor_->shutdown();
  run_to_end(1s);
  EXPECT_THAT(orchestrator_.stops, ElementsAre(1h, 0s));
}

// Brings a supervisor into each phase, then asks it to stop: it ends, and leaves nothing open.
class ShutdownInPhase : public SupervisorTest, public ::testing::WithParamInterface<Phase> {
 protected:
  void reach(Phase wanted) {
    options_.policy.ladders[static_cast<size_t>(FaultKind::kCrash)] = {HealStep::kRestart,
                                                                       HealStep::kGiveUp};
    log_.delay = 20ms;
    make();
    if (wanted == Phase::kIdle) return;
    supervisor_->start();
    keeper_.damaged = wanted == Phase::kRestoring;
    const bool reached = loop_.run_until(
        [&] {
          if (phase() == wanted) return true;
          if (phase() == Phase::kWarmingUp && wanted != Phase::kWarmingUp) supervisor_->on_ready();
          if (phase() == Phase::kServing && wanted != Phase::kServing) fall_ill(wanted);
          return phase() == wanted;
        },
        1min);
    ASSERT_TRUE(reached) << phase_name(phase());
  }
  void fall_ill(Phase wanted) {
    if (wanted == Phase::kDraining || wanted == Phase::kTerminating ||
        wanted == Phase::kFinalSnapshot || wanted == Phase::kFlushing) {
      snapshot_stuck_ = true;
      drain_.requests_take = 1s;
      supervisor_->shutdown();
      if (wanted == Phase::kFlushing) supervisor_->shutdown();
    } else if (wanted == Phase::kStoppingAgent) {
      supervisor_->observe({loop_.now(), StateChecked{true, "damaged"}});
    } else {
      alerter_.stuck = true;
      orchestrator_.exit_agent(1);
    }
  }
};

TEST_P(ShutdownInPhase, EndsWithNothingRunningAndNothingOpen) {
  reach(GetParam());
  if (HasFatalFailure()) return;
  supervisor_->shutdown();
  run_to_end();
  EXPECT_TRUE(exit_code_.has_value());
  EXPECT_FALSE(orchestrator_.exists());
  EXPECT_FALSE(gate_.up);
  EXPECT_EQ(supervisor_->open_incident(), nullptr);
  for (const auto& [id, incident] : log_.kept) {
    EXPECT_EQ(incident.status, IncidentStatus::kClosed) << id;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Phases, ShutdownInPhase,
    ::testing::Values(Phase::kIdle, Phase::kCheckingState, Phase::kStarting, Phase::kWarmingUp,
                      Phase::kServing, Phase::kRecordingIntent, Phase::kStoppingAgent,
                      Phase::kBackingOff, Phase::kRestoring, Phase::kDraining, Phase::kTerminating,
                      Phase::kFinalSnapshot, Phase::kGivingUp),
    [](const auto& phase_info) { return std::string(phase_name(phase_info.param)); });

TEST_F(SupervisorTest, ARestoreUnderWayIsFinishedBeforeTheEnd) {
  keeper_.damaged = true;
  keeper_.restore_delay = 20s;
  start();
  ASSERT_EQ(phase(), Phase::kRestoring);
  supervisor_->shutdown();
  loop_.run_for(10s);
  EXPECT_EQ(phase(), Phase::kTerminating);
  EXPECT_FALSE(exit_code_);
  run_to_end(11s);
  EXPECT_EQ(exit_code_, 0);
  EXPECT_EQ(snapshots_, 0) << "what may still be damaged is not kept";
}

TEST_F(SupervisorTest, DestroyedInTheMiddleItHearsNothingMore) {
  serve();
  orchestrator_.exit_agent(1);
  supervisor_.reset();
  loop_.run_for(1s);
  EXPECT_FALSE(exit_code_);
  EXPECT_EQ(orchestrator_.starts.size(), 1u);
}

TEST_F(SupervisorTest, AHookMayCallBackIn) {
  make();
  SupervisorHooks hooks;
  hooks.on_agent_started = [this](const AgentInstance&) { supervisor_->on_ready(); };
  hooks.on_incident = [this](const Incident&) { supervisor_->on_unready("incident"); };
  supervisor_ = std::make_unique<Supervisor>(
      SupervisorSeams{loop_, orchestrator_, &keeper_, log_, alerter_, gate_, drain_}, options_,
      std::move(hooks));
  supervisor_->start();
  loop_.run_for(100ms);
  EXPECT_EQ(phase(), Phase::kServing);
  orchestrator_.exit_agent(1);
  loop_.run_for(100ms);
  EXPECT_EQ(phase(), Phase::kServing);
  EXPECT_EQ(gate_.generation, 2u);
}

}  // namespace
}  // namespace remora
