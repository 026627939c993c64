// The ladder, the back-off and the budget, as tables.
#include "sidecar/heal/decide.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace remora {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

const MonotonicTime t0{1000s};

Fault fault_of(FaultKind kind) { return {kind, "broken", {}, t0, t0}; }

// Decides again and again as an agent would have it that falls ill `healthy` after each start.
struct Patient {
  HealingPolicy policy;
  History history;
  MonotonicTime now = t0;

  Decision fall_ill(FaultKind kind) {
    history.note_fault(now);
    const Decision decision = decide(fault_of(kind), history, policy, now);
    history.note_decided(kind, decision.step, decision.action, now);
    return decision;
  }
  void start(const Decision& decision) {
    now += decision.delay;
    history.note_started(now);
  }
  void recover(Duration healthy) {
    history.note_ready(now);
    now += healthy;
  }
  HealAction heal(FaultKind kind, Duration healthy) {
    const Decision decision = fall_ill(kind);
    if (decision.action != HealAction::kGiveUp) {
      start(decision);
      recover(healthy);
    }
    return decision.action;
  }
};

TEST(Decide, ClimbsTheLadderOfEachKindOfFault) {
  using enum HealAction;
  const std::vector<HealAction> restarts = {kRestart, kRestart, kRestart, kRestoreThenRestart,
                                            kRestart, kRestart};
  const std::vector<std::pair<FaultKind, std::vector<HealAction>>> table = {
      {FaultKind::kCrash, restarts},
      {FaultKind::kResourceExhaustion, restarts},
      {FaultKind::kDeadlock, restarts},
      {FaultKind::kHang, restarts},
      {FaultKind::kStateDamaged, {kRestoreThenRestart, kRestoreThenRestart, kGiveUp}},
      {FaultKind::kDependency, {kNone}},
      {FaultKind::kOverload, {kNone}},
  };
  for (const auto& [kind, wanted] : table) {
    Patient patient;
    std::vector<HealAction> done;
    while (done.size() < wanted.size()) done.push_back(patient.heal(kind, 1s));
    EXPECT_EQ(done, wanted) << fault_kind_name(kind);
  }
}

TEST(Decide, EachKindHasItsOwnPlaceOnItsLadder) {
  Patient patient;
  for (int i = 0; i < 3; ++i) patient.heal(FaultKind::kCrash, 1s);
  EXPECT_EQ(patient.heal(FaultKind::kHang, 1s), HealAction::kRestart);
  EXPECT_EQ(patient.heal(FaultKind::kCrash, 1s), HealAction::kRestoreThenRestart);
}

TEST(Decide, WaitsLongerEachTimeUpToTheLimit) {
  Patient patient;
  patient.policy.restarts_max = 100;
  const std::vector<Duration> wanted = {0s, 1s, 2s, 4s, 8s, 16s, 32s, 60s, 60s};
  for (const Duration delay : wanted) {
    const Decision decision = patient.fall_ill(FaultKind::kCrash);
    EXPECT_EQ(decision.delay, delay);
    patient.start(decision);
    patient.recover(1s);
  }
}

TEST(Decide, NeverWaitsLessThanTheBaseOrLessThanBefore) {
  Patient patient;
  patient.policy.backoff_base = 5s;
  patient.policy.backoff_max = 9s;
  Duration before{0};
  for (int i = 0; i < 8; ++i) {
    const Decision decision = patient.fall_ill(FaultKind::kHang);
    EXPECT_GE(decision.delay, before);
    EXPECT_GE(decision.delay, 5s);
    EXPECT_LE(decision.delay, 9s);
    before = decision.delay;
    patient.start(decision);
    patient.recover(1s);
  }
  EXPECT_EQ(before, 9s);
}

TEST(Decide, DoublingForEverDoesNotOverflow) {
  Patient patient;
  patient.policy.backoff_max = 24h;
  patient.policy.restarts_max = 1000;
  for (int i = 0; i < 200; ++i) patient.heal(FaultKind::kCrash, 1s);
  EXPECT_EQ(patient.fall_ill(FaultKind::kCrash).delay, 24h);
}

TEST(Decide, AStablePeriodPutsLadderAndBackOffToTheBottom) {
  Patient patient;
  for (int i = 0; i < 3; ++i) patient.heal(FaultKind::kCrash, 1s);
  patient.heal(FaultKind::kCrash, patient.policy.stable_after);
  const Decision decision = patient.fall_ill(FaultKind::kCrash);
  EXPECT_EQ(decision.action, HealAction::kRestart);
  EXPECT_EQ(decision.delay, 0s);
  EXPECT_EQ(decision.step, 0u);
}

TEST(Decide, AlmostAStablePeriodDoesNot) {
  Patient patient;
  for (int i = 0; i < 2; ++i) patient.heal(FaultKind::kCrash, 1s);
  patient.heal(FaultKind::kCrash, patient.policy.stable_after - 1ns);
  EXPECT_EQ(patient.fall_ill(FaultKind::kCrash).action, HealAction::kRestoreThenRestart);
}

TEST(Decide, AStepThatNeverBecameReadyIsNotStableHoweverLongItTook) {
  Patient patient;
  for (int i = 0; i < 3; ++i) {
    patient.start(patient.fall_ill(FaultKind::kHang));
    patient.now += 2 * patient.policy.stable_after;
  }
  EXPECT_EQ(patient.fall_ill(FaultKind::kHang).action, HealAction::kRestoreThenRestart);
}

TEST(Decide, GivesUpWhenTheBudgetIsSpent) {
  Patient patient;
  patient.policy.restarts_max = 4;
  for (int i = 0; i < 4; ++i) EXPECT_NE(patient.heal(FaultKind::kCrash, 1s), HealAction::kGiveUp);
  const Decision decision = patient.fall_ill(FaultKind::kCrash);
  EXPECT_EQ(decision.action, HealAction::kGiveUp);
  EXPECT_THAT(decision.reason, HasSubstr("4 restarts within 600 s"));
}

TEST(Decide, TheBudgetIsSharedByAllKinds) {
  Patient patient;
  patient.policy.restarts_max = 2;
  patient.heal(FaultKind::kCrash, 1s);
  patient.heal(FaultKind::kHang, 1s);
  EXPECT_EQ(patient.heal(FaultKind::kDeadlock, 1s), HealAction::kGiveUp);
}

TEST(Decide, TheWindowSlides) {
  Patient patient;
  patient.policy.restarts_max = 2;
  patient.policy.restarts_window = 60s;
  patient.policy.backoff_step = 1ms;
  patient.heal(FaultKind::kCrash, 50s);
  patient.heal(FaultKind::kCrash, 20s);
  // The first start is out of the window by now.
  EXPECT_EQ(patient.heal(FaultKind::kCrash, 1s), HealAction::kRestart);
  EXPECT_EQ(patient.heal(FaultKind::kCrash, 1s), HealAction::kGiveUp);
}

TEST(Decide, AStablePeriodDoesNotRefillTheBudget) {
  Patient patient;
  patient.policy.restarts_max = 2;
  patient.policy.restarts_window = 1h;
  patient.policy.stable_after = 1min;
  patient.heal(FaultKind::kCrash, 5min);
  patient.heal(FaultKind::kCrash, 5min);
  EXPECT_EQ(patient.heal(FaultKind::kCrash, 5min), HealAction::kGiveUp);
}

TEST(Decide, ARestoreThatFailedBeforeTheStartIsSpentToo) {
  Patient patient;
  patient.policy.restarts_max = 3;
  patient.policy.ladders[static_cast<size_t>(FaultKind::kStateDamaged)] = {HealStep::kRestore};
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(patient.fall_ill(FaultKind::kStateDamaged).action, HealAction::kRestoreThenRestart);
  }
  EXPECT_EQ(patient.fall_ill(FaultKind::kStateDamaged).action, HealAction::kGiveUp);
}

TEST(Decide, PassesOverRestoringWhereThereIsNothingToRestoreFrom) {
  Patient patient;
  patient.policy.can_restore = false;
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(patient.heal(FaultKind::kCrash, 1s), HealAction::kRestart) << i;
  }
}

TEST(Decide, AnEmptyStoreIsAskedOnce) {
  Patient patient;
  patient.fall_ill(FaultKind::kStateDamaged);
  patient.history.note_nothing_to_restore();
  const Decision decision = patient.fall_ill(FaultKind::kStateDamaged);
  EXPECT_EQ(decision.action, HealAction::kGiveUp);
}

TEST(Decide, RepeatsTheLastStepThatCanBeDone) {
  Patient patient;
  patient.policy.ladders[static_cast<size_t>(FaultKind::kHang)] = {HealStep::kRestart,
                                                                   HealStep::kRestore};
  EXPECT_EQ(patient.heal(FaultKind::kHang, 1s), HealAction::kRestart);
  EXPECT_EQ(patient.heal(FaultKind::kHang, 1s), HealAction::kRestoreThenRestart);
  EXPECT_EQ(patient.heal(FaultKind::kHang, 1s), HealAction::kRestoreThenRestart);
  patient.policy.can_restore = false;
  EXPECT_EQ(patient.heal(FaultKind::kHang, 1s), HealAction::kRestart);
}

TEST(Decide, GivesUpWhereNothingOnTheLadderCanBeDone) {
  Patient patient;
  patient.policy.can_restore = false;
  patient.policy.ladders[static_cast<size_t>(FaultKind::kHang)] = {HealStep::kRestore};
  const Decision decision = patient.fall_ill(FaultKind::kHang);
  EXPECT_EQ(decision.action, HealAction::kGiveUp);
  EXPECT_THAT(decision.reason, HasSubstr("no snapshot"));
  patient.policy.ladders[static_cast<size_t>(FaultKind::kHang)] = {};
  EXPECT_EQ(patient.fall_ill(FaultKind::kHang).action, HealAction::kGiveUp);
}

TEST(Decide, AShorterLadderFromAReloadIsClimbedToItsEnd) {
  Patient patient;
  for (int i = 0; i < 4; ++i) patient.heal(FaultKind::kCrash, 1s);
  patient.policy.ladders[static_cast<size_t>(FaultKind::kCrash)] = {HealStep::kRestart,
                                                                    HealStep::kGiveUp};
  EXPECT_EQ(patient.heal(FaultKind::kCrash, 1s), HealAction::kGiveUp);
}

TEST(Decide, SaysWhy) {
  Patient patient;
  patient.heal(FaultKind::kCrash, 1s);
  EXPECT_EQ(patient.fall_ill(FaultKind::kCrash).reason,
            "crash, attempt 2: restart after 1 s (step 2 of 5)");
}

TEST(Decide, TheSameQuestionHasTheSameAnswer) {
  Patient patient;
  for (int i = 0; i < 3; ++i) patient.heal(FaultKind::kCrash, 1s);
  const Decision a =
      decide(fault_of(FaultKind::kCrash), patient.history, patient.policy, patient.now);
  const Decision b =
      decide(fault_of(FaultKind::kCrash), patient.history, patient.policy, patient.now);
  EXPECT_EQ(a.action, b.action);
  EXPECT_EQ(a.delay, b.delay);
  EXPECT_EQ(a.reason, b.reason);
}

TEST(History, IsBounded) {
  History history;
  for (size_t i = 0; i < History::records_max + 10; ++i) {
    history.note_decided(FaultKind::kCrash, i, HealAction::kRestart, t0);
  }
  EXPECT_EQ(history.records().size(), History::records_max);
  EXPECT_EQ(history.records().back().step, History::records_max + 9);
}

TEST(History, NotesOfAnAgentThatWasNeverHealedChangeNothing) {
  History history;
  history.note_started(t0);
  history.note_ready(t0);
  history.note_fault(t0);
  history.note_nothing_to_restore();
  EXPECT_TRUE(history.records().empty());
}

TEST(Names, RoundTrip) {
  for (const HealStep step : {HealStep::kRestart, HealStep::kRestore, HealStep::kGiveUp}) {
    EXPECT_EQ(heal_step_from_name(heal_step_name(step)), step);
  }
  EXPECT_EQ(heal_step_from_name("reboot"), std::nullopt);
  EXPECT_EQ(heal_action_from_name("restore_then_restart"), HealAction::kRestoreThenRestart);
  EXPECT_EQ(heal_action_from_name(""), std::nullopt);
}

}  // namespace
}  // namespace remora
