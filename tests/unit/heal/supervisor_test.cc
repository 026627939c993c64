// The control loop against fakes, in virtual time: every path from a fault to its end.
#include "tests/unit/heal/supervisor_fixture.h"

namespace remora {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST_F(SupervisorTest, StartsTheAgentOnceItsStateIsChecked) {
  make();
  EXPECT_EQ(phase(), Phase::kIdle);
  start();
  EXPECT_EQ(keeper_.checks, 1);
  EXPECT_EQ(phase(), Phase::kWarmingUp);
  EXPECT_FALSE(gate_.up);
  EXPECT_EQ(probing_started_, 1);
  supervisor_->on_ready();
  EXPECT_EQ(phase(), Phase::kServing);
  EXPECT_EQ(gate_.generation, 1u);
  EXPECT_THAT(reported_, IsEmpty());
}

TEST_F(SupervisorTest, StartsWithoutAStateToCheck) {
  make(/*with_state=*/false);
  serve();
  EXPECT_EQ(keeper_.checks, 0);
}

TEST_F(SupervisorTest, AnAgentThatTakesLongToStartForTheFirstTimeIsLeftAlone) {
  start();
  loop_.run_for(1h);
  EXPECT_EQ(phase(), Phase::kWarmingUp);
}

TEST_F(SupervisorTest, TheGateFollowsReadinessWithoutAnIncident) {
  serve();
  supervisor_->on_unready("GET /ready: HTTP 503");
  EXPECT_FALSE(gate_.up);
  EXPECT_EQ(gate_.reason, "GET /ready: HTTP 503");
  supervisor_->on_ready();
  EXPECT_TRUE(gate_.up);
  EXPECT_THAT(reported_, IsEmpty());
  EXPECT_EQ(orchestrator_.starts.size(), 1u);
}

TEST_F(SupervisorTest, ACrashIsRestartedAndRecorded) {
  serve();
  orchestrator_.exit_agent(139, 11);
  EXPECT_FALSE(gate_.up);
  run_and_get_ready(1s);
  EXPECT_EQ(phase(), Phase::kServing);
  EXPECT_TRUE(gate_.up);
  EXPECT_EQ(gate_.generation, 2u);
  EXPECT_EQ(supervisor_->restarts(), 1u);
  EXPECT_THAT(orchestrator_.stops, IsEmpty());
  EXPECT_EQ(probing_started_, 2);
  EXPECT_EQ(probing_stopped_, 1);

  ASSERT_THAT(reported_, SizeIs(2));  // opened, closed
  const auto kept = log_.of(FaultKind::kCrash);
  ASSERT_THAT(kept, SizeIs(1));
  const Incident& incident = kept[0];
  EXPECT_EQ(incident.closed_reason, ClosedReason::kRecovered);
  EXPECT_EQ(incident.generation, 1u);
  EXPECT_EQ(incident.log_tail, "last words\n");
  EXPECT_THAT(incident.requests_in_flight, ElementsAre("POST /invoke, 2 s"));
  EXPECT_FALSE(incident.evidence.empty());
  ASSERT_THAT(incident.steps, SizeIs(1));
  EXPECT_EQ(incident.steps[0].action, HealAction::kRestart);
  EXPECT_EQ(incident.steps[0].outcome, "ready");
  EXPECT_LE(incident.began_at_unix_ns, incident.detected_at_unix_ns);
  EXPECT_LE(incident.detected_at_unix_ns, incident.decided_at_unix_ns);
  EXPECT_LT(incident.decided_at_unix_ns, incident.acted_at_unix_ns);
  EXPECT_LT(incident.acted_at_unix_ns, incident.ready_at_unix_ns);
  EXPECT_NEAR(*incident.mttr_s(),
              *incident.detect_s() + *incident.decide_s() + *incident.act_s() + *incident.ready_s(),
              1e-9);
  EXPECT_THAT(alerter_.alerts, IsEmpty());
}

TEST_F(SupervisorTest, AKillByTheOomKillerIsResourceExhaustion) {
  serve();
  orchestrator_.exit_agent(137, 9, /*oom_killed=*/true);
  run_and_get_ready(1s);
  EXPECT_THAT(log_.of(FaultKind::kResourceExhaustion), SizeIs(1));
  EXPECT_TRUE(gate_.up);
}

TEST_F(SupervisorTest, TheIntentIsOnDiskBeforeTheEffect) {
  log_.delay = 500ms;
  serve();
  see_deadlock();
  EXPECT_EQ(phase(), Phase::kRecordingIntent);
  loop_.run_for(499ms);
  EXPECT_THAT(orchestrator_.stops, IsEmpty());
  loop_.run_for(2ms);
  EXPECT_THAT(orchestrator_.stops, SizeIs(1));
  EXPECT_EQ(log_.of(FaultKind::kDeadlock).at(0).steps.at(0).action, HealAction::kRestart);
  EXPECT_EQ(log_.of(FaultKind::kDeadlock).at(0).status, IncidentStatus::kOpen);
}

TEST_F(SupervisorTest, AFullDiskDoesNotStopHealing) {
  log_.error = Error{ErrorCode::kNoSpace, ErrorSource::kStorage, false, "disk full"};
  serve();
  orchestrator_.exit_agent(1);
  run_and_get_ready(1s);
  EXPECT_TRUE(gate_.up);
}

TEST_F(SupervisorTest, AStuckDiskDelaysHealingByABoundedTime) {
  log_.stuck = true;
  serve();
  orchestrator_.exit_agent(1);
  loop_.run_for(std::chrono::milliseconds(intent_write_wait_ms_max - 1));
  EXPECT_EQ(orchestrator_.starts.size(), 1u);
  run_and_get_ready(1s);
  EXPECT_EQ(orchestrator_.starts.size(), 2u);
  EXPECT_TRUE(gate_.up);
}

TEST_F(SupervisorTest, ADeadlockedAgentIsStoppedAndRestarted) {
  serve();
  orchestrator_.ignores_sigterm = true;
  see_deadlock();
  run_and_get_ready(3s);
  EXPECT_THAT(orchestrator_.stops, ElementsAre(options_.heal_stop_grace));
  EXPECT_TRUE(gate_.up);
  EXPECT_EQ(gate_.generation, 2u);
  const auto kept = log_.of(FaultKind::kDeadlock);
  ASSERT_THAT(kept, SizeIs(1));
  EXPECT_EQ(kept[0].closed_reason, ClosedReason::kRecovered);
  EXPECT_THAT(log_.of(FaultKind::kCrash), IsEmpty()) << "its end was asked for";
}

TEST_F(SupervisorTest, WhilePausedAnAgentThatRunsIsLeftAlone) {
  options_.policy.paused = true;
  serve();
  see_deadlock();
  run_and_get_ready(60s);
  EXPECT_THAT(orchestrator_.stops, IsEmpty());
  ASSERT_NE(supervisor_->held_fault(), nullptr);
  EXPECT_EQ(supervisor_->held_fault()->kind, FaultKind::kDeadlock);
  options_.policy.paused = false;
  supervisor_->set_policy(options_.policy);
  run_and_get_ready(3s);
  EXPECT_THAT(orchestrator_.starts, SizeIs(2)) << "it still holds";
  EXPECT_THAT(log_.of(FaultKind::kDeadlock), SizeIs(1));
  EXPECT_EQ(supervisor_->held_fault(), nullptr);
}

TEST_F(SupervisorTest, WhatPassesWhilePausedIsForgotten) {
  options_.policy.paused = true;
  serve();
  see_deadlock();
  ASSERT_NE(supervisor_->held_fault(), nullptr);
  DeadlockSample free;
  free.generation = orchestrator_.generation();
  free.pid = supervisor_->instance().pid;
  free.threads = 2;
  supervisor_->observe({loop_.now(), free});
  EXPECT_EQ(supervisor_->held_fault(), nullptr);
  options_.policy.paused = false;
  supervisor_->set_policy(options_.policy);
  run_and_get_ready(3s);
  EXPECT_THAT(orchestrator_.stops, IsEmpty());
}

TEST_F(SupervisorTest, WhilePausedAnAgentThatEndsIsStartedAgain) {
  options_.policy.paused = true;
  serve();
  see_deadlock();
  orchestrator_.exit_agent(1);
  run_and_get_ready(3s);
  EXPECT_THAT(orchestrator_.starts, SizeIs(2));
  EXPECT_TRUE(gate_.up);
  EXPECT_THAT(log_.of(FaultKind::kCrash), SizeIs(1));
}

TEST_F(SupervisorTest, AStartThatTakesLongWhilePausedIsNoFailure) {
  options_.policy.paused = true;
  options_.policy.step_timeout = 5s;
  serve();
  orchestrator_.exit_agent(1);
  loop_.run_for(60s);
  EXPECT_THAT(orchestrator_.stops, IsEmpty());
  supervisor_->on_ready();
  loop_.run_for(1s);
  options_.policy.paused = false;
  supervisor_->set_policy(options_.policy);
  loop_.run_for(1s);
  EXPECT_THAT(orchestrator_.stops, IsEmpty());
  EXPECT_TRUE(gate_.up);
}

TEST_F(SupervisorTest, DamagedStateIsRestoredBeforeTheFirstStart) {
  keeper_.damaged = true;
  start();
  run_and_get_ready(1s);
  EXPECT_EQ(keeper_.restores, 1);
  EXPECT_EQ(orchestrator_.starts.size(), 1u);
  EXPECT_TRUE(gate_.up);
  const auto kept = log_.of(FaultKind::kStateDamaged);
  ASSERT_THAT(kept, SizeIs(1));
  EXPECT_THAT(actions(kept[0]), ElementsAre(HealAction::kRestoreThenRestart));
  EXPECT_EQ(kept[0].evidence.back().text, "restored snapshot snap-1");
}

TEST_F(SupervisorTest, DamagedStateFoundWhileHealingTakesOver) {
  serve();
  keeper_.damaged = true;
  orchestrator_.exit_agent(1);
  run_and_get_ready(1s);
  EXPECT_EQ(keeper_.restores, 1);
  EXPECT_TRUE(gate_.up);
  const auto crash = log_.of(FaultKind::kCrash);
  const auto damage = log_.of(FaultKind::kStateDamaged);
  ASSERT_THAT(crash, SizeIs(1));
  ASSERT_THAT(damage, SizeIs(1));
  EXPECT_EQ(crash[0].closed_reason, ClosedReason::kSuperseded);
  EXPECT_EQ(damage[0].closed_reason, ClosedReason::kRecovered);
  EXPECT_EQ(damage[0].began_at_unix_ns, crash[0].began_at_unix_ns) << "callers wait since then";
}

TEST_F(SupervisorTest, DamageSeenWhileServingStopsTheAgentAndRestores) {
  serve();
  supervisor_->observe({loop_.now(), StateChecked{true, "memory.db is malformed"}});
  run_and_get_ready(1s);
  EXPECT_THAT(orchestrator_.stops, SizeIs(1));
  EXPECT_EQ(keeper_.restores, 1);
  EXPECT_TRUE(gate_.up);
}

TEST_F(SupervisorTest, AStateCheckThatFailsIsNoReasonToStayDown) {
  keeper_.check_error = Error{ErrorCode::kIo, ErrorSource::kStorage, false, "I/O error"};
  serve();
  EXPECT_EQ(keeper_.restores, 0);
}

TEST_F(SupervisorTest, GivesUpWhereDamagedStateHasNoSnapshot) {
  keeper_.damaged = true;
  keeper_.restore_error = Error{ErrorCode::kNotFound, ErrorSource::kStorage, false, "no snapshot"};
  start();
  run_to_end();
  EXPECT_EQ(exit_code_, 1);
  EXPECT_EQ(keeper_.restores, 1) << "an empty store is asked once";
  EXPECT_THAT(orchestrator_.starts, IsEmpty()) << "never started from damaged state";
  EXPECT_EQ(snapshots_, 0) << "damaged state is not worth keeping";
  EXPECT_EQ(last().closed_reason, ClosedReason::kGaveUp);
  EXPECT_THAT(last().steps.at(0).outcome, HasSubstr("failed: restore: no snapshot"));
}

TEST_F(SupervisorTest, ALadderThatRestartsOnDamageStartsFromTheStateAsItIs) {
  options_.policy.ladders[static_cast<size_t>(FaultKind::kStateDamaged)] = {HealStep::kRestart};
  keeper_.damaged = true;
  start();
  run_and_get_ready(1s);
  EXPECT_TRUE(gate_.up);
  EXPECT_EQ(keeper_.restores, 0);
  EXPECT_EQ(keeper_.checks, 1);
}

TEST_F(SupervisorTest, ARestoreThatFailsIsTriedAgainThenGivenUp) {
  keeper_.damaged = true;
  keeper_.restore_error = Error{ErrorCode::kIo, ErrorSource::kStorage, false, "I/O error"};
  start();
  run_to_end();
  EXPECT_EQ(keeper_.restores, 2);
  EXPECT_EQ(last().closed_reason, ClosedReason::kGaveUp);
  EXPECT_THAT(actions(last()), ElementsAre(HealAction::kRestoreThenRestart,
                                           HealAction::kRestoreThenRestart, HealAction::kGiveUp));
}

TEST_F(SupervisorTest, CrashesThatComeBackClimbTheLadder) {
  serve();
  for (int i = 0; i < 4; ++i) {
    orchestrator_.exit_agent(1);
    run_and_get_ready(70s);
    ASSERT_TRUE(gate_.up) << i;
  }
  EXPECT_EQ(keeper_.restores, 1);
  const auto kept = log_.of(FaultKind::kCrash);
  ASSERT_THAT(kept, SizeIs(4));
  EXPECT_THAT(actions(kept[3]), ElementsAre(HealAction::kRestoreThenRestart));
}

TEST_F(SupervisorTest, AStepThatIsNotReadyInTimeIsFollowedByTheNext) {
  options_.policy.step_timeout = 5s;
  serve();
  orchestrator_.exit_agent(1);
  loop_.run_for(5s + 200ms);
  ASSERT_EQ(orchestrator_.stops.size(), 1u) << "the instance that did not become ready";
  run_and_get_ready(5s);
  EXPECT_TRUE(gate_.up);
  const auto kept = log_.of(FaultKind::kCrash);
  ASSERT_THAT(kept, SizeIs(1)) << "one outage, one incident";
  ASSERT_THAT(kept[0].steps, SizeIs(2));
  EXPECT_EQ(kept[0].steps[0].outcome, "failed: not ready within 5 s");
  EXPECT_EQ(kept[0].steps[1].outcome, "ready");
}

TEST_F(SupervisorTest, AnAgentThatIsSlowToStartGetsTwiceTheTimeItTookBefore) {
  options_.policy.step_timeout = 5s;
  start();
  loop_.run_for(60s);  // loads a model
  supervisor_->on_ready();
  orchestrator_.exit_agent(1);
  loop_.run_for(110s);
  EXPECT_EQ(phase(), Phase::kWarmingUp);
  EXPECT_THAT(orchestrator_.stops, IsEmpty());
  loop_.run_for(15s);
  EXPECT_THAT(orchestrator_.stops, SizeIs(1));
}

TEST_F(SupervisorTest, ExitsDuringTheStartAreStepsOfOneIncident) {
  serve();
  orchestrator_.exit_agent(1);
  loop_.run_for(100ms);
  ASSERT_EQ(phase(), Phase::kWarmingUp);
  orchestrator_.exit_agent(2);
  run_and_get_ready(3s);
  EXPECT_TRUE(gate_.up);
  const auto kept = log_.of(FaultKind::kCrash);
  ASSERT_THAT(kept, SizeIs(1));
  ASSERT_THAT(kept[0].steps, SizeIs(2));
  EXPECT_THAT(kept[0].steps[0].outcome, HasSubstr("failed: crash"));
}

TEST_F(SupervisorTest, ACrashLoopSpendsTheBudgetAndPassesTheExitCodeOn) {
  start();
  int crashes = 0;
  while (!exit_code_ && crashes < 100) {
    loop_.run_for(100ms);
    if (orchestrator_.exit_agent(42)) ++crashes;
  }
  EXPECT_EQ(exit_code_, 42);
  EXPECT_EQ(orchestrator_.starts.size(), 1u + options_.policy.restarts_max);
  EXPECT_EQ(last().closed_reason, ClosedReason::kGaveUp);
  EXPECT_EQ(last().steps.back().action, HealAction::kGiveUp);
  ASSERT_THAT(alerter_.alerts, SizeIs(1));
  EXPECT_EQ(alerter_.alerts[0].id, last().id);
  EXPECT_THAT(drain_.waits, ElementsAre(0s)) << "held requests are answered";
  EXPECT_EQ(log_.kept.at(last().id).closed_reason, ClosedReason::kGaveUp) << "on disk at the end";
}

TEST_F(SupervisorTest, AnAlertThatHangsDoesNotKeepRemoraAlive) {
  options_.policy.ladders[static_cast<size_t>(FaultKind::kCrash)] = {HealStep::kGiveUp};
  alerter_.stuck = true;
  serve();
  orchestrator_.exit_agent(3);
  run_to_end(std::chrono::milliseconds(give_up_wait_ms_max) + 1s);
  EXPECT_EQ(exit_code_, 3);
}

TEST_F(SupervisorTest, WhoGoesOnAfterGivingUpDoesNotLetAnAgentBeginFromDamagedState) {
  options_.ends_when_giving_up = false;
  keeper_.damaged = true;
  keeper_.restore_error = Error{ErrorCode::kIo, ErrorSource::kStorage, false, "I/O error"};
  start();
  run_and_get_ready(10 * options_.policy.backoff_max);
  EXPECT_THAT(orchestrator_.starts, IsEmpty());
  EXPECT_TRUE(supervisor_->gave_up());
  const size_t alerts = alerter_.alerts.size();
  EXPECT_GE(alerts, 2u) << "said again while it lasts";
  EXPECT_LE(alerts, 11u) << "no more than once each backoff_max";
  keeper_.damaged = false;  // somebody has mended it
  run_and_get_ready(2 * options_.policy.backoff_max);
  EXPECT_THAT(orchestrator_.starts, SizeIs(1));
  EXPECT_TRUE(gate_.up);
  EXPECT_FALSE(supervisor_->gave_up());
}

TEST_F(SupervisorTest, StateThatIsDamagedAfterACrashWasGivenUpIsStillRestored) {
  options_.ends_when_giving_up = false;
  options_.policy.ladders[static_cast<size_t>(FaultKind::kCrash)] = {HealStep::kGiveUp};
  serve();
  keeper_.damaged = true;
  orchestrator_.exit_agent(3);
  run_and_get_ready(5s);
  EXPECT_EQ(keeper_.restores, 1);
  EXPECT_TRUE(gate_.up);
}

TEST_F(SupervisorTest, GivingUpOnAHungAgentStopsItFirst) {
  options_.policy.ladders[static_cast<size_t>(FaultKind::kDeadlock)] = {HealStep::kGiveUp};
  serve();
  see_deadlock();
  run_to_end();
  EXPECT_FALSE(orchestrator_.exists());
  EXPECT_EQ(exit_code_, 143);
}

TEST_F(SupervisorTest, AnExitWithZeroIsACleanEnd) {
  serve();
  orchestrator_.exit_agent(0);
  run_to_end();
  EXPECT_EQ(exit_code_, 0);
  EXPECT_THAT(reported_, IsEmpty());
  EXPECT_EQ(orchestrator_.starts.size(), 1u);
  EXPECT_EQ(snapshots_, 1);
}

TEST_F(SupervisorTest, AnExitWithZeroWhileHealingClosesTheIncidentAsStopped) {
  serve();
  orchestrator_.exit_agent(1);
  loop_.run_for(100ms);
  ASSERT_EQ(phase(), Phase::kWarmingUp);
  orchestrator_.exit_agent(0);
  run_to_end();
  EXPECT_EQ(exit_code_, 0);
  EXPECT_EQ(last().closed_reason, ClosedReason::kStopped);
}

TEST_F(SupervisorTest, ACommandThatIsMissingIsTheUsersMistake) {
  for (const auto& [code, wanted] :
       {std::pair(ErrorCode::kNotFound, 127), std::pair(ErrorCode::kPermission, 126)}) {
    exit_code_.reset();
    orchestrator_.start_error = Error{code, ErrorSource::kAgent, false, "can't be run"};
    make();
    supervisor_->start();
    run_to_end();
    EXPECT_EQ(exit_code_, wanted);
    EXPECT_THAT(reported_, IsEmpty());
    EXPECT_EQ(snapshots_, 0);
  }
  EXPECT_EQ(orchestrator_.starts.size(), 2u) << "tried once each";
}

TEST_F(SupervisorTest, AStartThatFailsForWantOfMemoryIsTriedAgain) {
  orchestrator_.start_error = Error{ErrorCode::kIo, ErrorSource::kAgent, true, "fork: no memory"};
  start();
  orchestrator_.start_error.reset();
  run_and_get_ready(2s);
  EXPECT_TRUE(gate_.up);
  EXPECT_THAT(log_.of(FaultKind::kCrash), SizeIs(1));
}

TEST_F(SupervisorTest, ACommandThatVanishesLaterIsHealedLikeACrash) {
  serve();
  orchestrator_.start_error = Error{ErrorCode::kNotFound, ErrorSource::kAgent, false, "gone"};
  orchestrator_.exit_agent(1);
  loop_.run_for(500ms);
  orchestrator_.start_error.reset();  // the deployment has finished
  run_and_get_ready(5s);
  EXPECT_TRUE(gate_.up);
}

}  // namespace
}  // namespace remora
