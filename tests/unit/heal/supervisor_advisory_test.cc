// Faults that are recorded and told, and never acted upon.
#include "tests/unit/heal/supervisor_fixture.h"

namespace remora {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using SupervisorAdvisoryTest = SupervisorTest;

TEST_F(SupervisorAdvisoryTest, OverloadIsRecordedAndAlertedNeverActedUpon) {
  serve();
  for (uint64_t i = 0; i < 30; ++i) {
    see_overload(i * 50);
    loop_.run_for(1s);
  }
  EXPECT_EQ(orchestrator_.starts.size(), 1u);
  EXPECT_THAT(orchestrator_.stops, IsEmpty());
  EXPECT_TRUE(gate_.up);
  auto kept = log_.of(FaultKind::kOverload);
  ASSERT_THAT(kept, SizeIs(1));
  EXPECT_EQ(kept[0].status, IncidentStatus::kOpen);
  EXPECT_THAT(actions(kept[0]), ElementsAre(HealAction::kNone));
  EXPECT_THAT(alerter_.alerts, SizeIs(1));
  for (int i = 0; i < 30; ++i) {
    see_overload(29 * 50);
    loop_.run_for(1s);
  }
  kept = log_.of(FaultKind::kOverload);
  EXPECT_EQ(kept.at(0).closed_reason, ClosedReason::kRecovered);
}

TEST_F(SupervisorAdvisoryTest, AStoreThatIsAnothersIsToldOnceAndTheAgentServesOn) {
  serve();
  supervisor_->note_store_taken_over("another writer (epoch 2) took over");
  loop_.run_for(10min);
  supervisor_->note_store_taken_over("another writer (epoch 3) took over");
  EXPECT_THAT(orchestrator_.stops, IsEmpty());
  EXPECT_TRUE(gate_.up);
  const auto kept = log_.of(FaultKind::kStoreTakenOver);
  ASSERT_THAT(kept, SizeIs(1));
  EXPECT_EQ(kept[0].status, IncidentStatus::kOpen) << "nobody gives it back";
  EXPECT_EQ(kept[0].summary, "another writer (epoch 2) took over");
  EXPECT_THAT(actions(kept[0]), ElementsAre(HealAction::kNone));
  EXPECT_THAT(alerter_.alerts, SizeIs(1));
}

TEST_F(SupervisorAdvisoryTest, OverloadThatComesBackSoonIsTheSameIncident) {
  serve();
  uint64_t rejected = 0;
  see_overload(rejected);
  for (int burst = 0; burst < 3; ++burst) {
    for (int i = 0; i < 5; ++i) {
      loop_.run_for(1s);
      see_overload(rejected += 50);
    }
    for (int i = 0; i < 20; ++i) {
      loop_.run_for(1s);
      see_overload(rejected);
    }
  }
  EXPECT_THAT(log_.of(FaultKind::kOverload), SizeIs(1));
  EXPECT_THAT(alerter_.alerts, SizeIs(1)) << "people are told once";
}

}  // namespace
}  // namespace remora
