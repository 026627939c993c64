// What is asked of an agent beside healing: a restart, or an older state.
#include <optional>
#include <string>

#include "tests/unit/heal/supervisor_fixture.h"

namespace remora {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

class SupervisorOrderTest : public SupervisorTest {
 protected:
  void order(bool restore, const std::string& snapshot = "") {
    supervisor_->order({.restore = restore,
                        .snapshot = snapshot,
                        .why = "request r1",
                        .done = [this](Result<std::string> how) { answers_.push_back(how); }});
  }
  std::vector<Result<std::string>> answers_;
};

TEST_F(SupervisorOrderTest, ARestoreStopsTheAgentPutsTheSnapshotBackAndStartsIt) {
  serve();
  order(true, "00000001-aa");
  EXPECT_FALSE(gate_.up) << "callers wait";
  run_and_get_ready(2s);
  ASSERT_THAT(answers_, SizeIs(1));
  ASSERT_TRUE(answers_[0]) << answers_[0].error().message;
  EXPECT_EQ(*answers_[0], "00000001-aa");
  EXPECT_EQ(keeper_.asked_for, "00000001-aa");
  EXPECT_TRUE(gate_.up);
  const auto kept = log_.of(FaultKind::kRequested);
  ASSERT_THAT(kept, SizeIs(1));
  EXPECT_EQ(kept[0].closed_reason, ClosedReason::kRecovered);
  EXPECT_EQ(kept[0].steps.at(0).action, HealAction::kRestoreThenRestart);
  EXPECT_THAT(kept[0].summary, HasSubstr("request r1"));
}

TEST_F(SupervisorOrderTest, ARestartIsOne) {
  serve();
  order(false);
  run_and_get_ready(2s);
  ASSERT_THAT(answers_, SizeIs(1));
  EXPECT_TRUE(answers_[0]);
  EXPECT_EQ(keeper_.restores, 0);
  EXPECT_EQ(orchestrator_.starts.size(), 2u);
}

TEST_F(SupervisorOrderTest, ARestoreThatFailsIsSaidAndTheAgentRunsAgainAsItWas) {
  keeper_.restore_error = Error{ErrorCode::kNotFound, ErrorSource::kStorage, false, "no such"};
  serve();
  order(true, "x");
  run_and_get_ready(5s);
  ASSERT_THAT(answers_, SizeIs(1));
  ASSERT_FALSE(answers_[0]);
  EXPECT_THAT(answers_[0].error().message, HasSubstr("no such"));
  EXPECT_TRUE(gate_.up);
  EXPECT_EQ(keeper_.restores, 1);
}

TEST_F(SupervisorOrderTest, WithoutSnapshotsNothingIsDone) {
  make(/*with_state=*/false);
  serve();
  order(true);
  loop_.run_for(10ms);
  ASSERT_THAT(answers_, SizeIs(1));
  EXPECT_EQ(answers_[0].error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(gate_.up);
}

TEST_F(SupervisorOrderTest, ItTakesThePlaceOfHealingThatIsUnderWay) {
  serve();
  orchestrator_.exit_agent(1);
  loop_.run_for(500ms);
  order(true, "00000001-aa");
  run_and_get_ready(5s);
  ASSERT_THAT(answers_, SizeIs(1));
  ASSERT_TRUE(answers_[0]) << answers_[0].error().message;
  EXPECT_EQ(log_.of(FaultKind::kCrash).at(0).closed_reason, ClosedReason::kSuperseded);
  EXPECT_TRUE(gate_.up);
}

TEST_F(SupervisorOrderTest, APauseHoldsBackHealingAndNotWhatAPersonAsksFor) {
  options_.policy.paused = true;
  serve();
  order(false);
  run_and_get_ready(2s);
  ASSERT_THAT(answers_, SizeIs(1));
  EXPECT_TRUE(answers_[0]) << answers_[0].error().message;
}

TEST_F(SupervisorOrderTest, OnlyOneAtATime) {
  serve();
  order(false);
  order(true);
  loop_.run_for(1ms);
  ASSERT_THAT(answers_, SizeIs(1));
  EXPECT_EQ(answers_[0].error().code, ErrorCode::kUnavailable);
  EXPECT_TRUE(answers_[0].error().retryable);
  run_and_get_ready(2s);
  EXPECT_THAT(answers_, SizeIs(2));
}

TEST_F(SupervisorOrderTest, ARequestThatMeetsTheEndIsAnswered) {
  serve();
  order(true);
  supervisor_->shutdown();
  loop_.run_for(30s);
  ASSERT_THAT(answers_, SizeIs(1));
  EXPECT_FALSE(answers_[0]);
}

}  // namespace
}  // namespace remora
