// Two pods and one store on a volume that both reach, whose locks neither sees of the other:
// whoever took over is alone with it from then on, however late the other one comes back to life.
#include <gmock/gmock.h>

#include "checkpoint/verify.h"
#include "tests/fakes/fault_file_system.h"
#include "tests/unit/checkpoint/checkpoint_fixture.h"

namespace remora::checkpoint {
namespace {

using testing::HasSubstr;

class FenceTest : public CheckpointTest {
 protected:
  FenceTest() {
    for (FaultFileSystem* fs : {&old_fs_, &new_fs_}) fs->locks_hold = false;
    begin_again();
  }
  // The old pod has published one snapshot, and is about to publish another.
  void begin_again() {
    old_store_.reset();
    new_store_.reset();
    std::filesystem::remove_all(store_path_);
    write_file(state_ + "/f", "one");
    old_fs_.before_step = {};
    old_store_ = open_store(&old_fs_);
    old_ = *old_store_->claim_epoch("old");
    ASSERT_TRUE(take_snapshot(*old_store_, old_, capture_options(&old_fs_)).has_value());
    write_file(state_ + "/f", "two");
    new_store_ = open_store(&new_fs_);
    old_fs_.reset_steps();
  }
  Result<CaptureReport> old_takes() {
    return take_snapshot(*old_store_, old_, capture_options(&old_fs_));
  }
  std::vector<std::string> ids() {
    std::vector<std::string> all;
    const auto listed = new_store_->list();
    for (const SnapshotInfo& info : *listed) all.push_back(info.id);
    return all;
  }

  FaultFileSystem old_fs_{make("old-stash")};
  FaultFileSystem new_fs_{make("new-stash")};
  std::unique_ptr<LocalStore> old_store_;
  std::unique_ptr<LocalStore> new_store_;
  Epoch old_;

 private:
  std::string make(const std::string& name) {
    std::filesystem::create_directory(scratch_ / name);
    return scratch_ / name;
  }
};

// The old one stands still before each step in turn, its rename into snapshots/ among them; the new
// one takes over; the old one goes on.
TEST_F(FenceTest, NothingAppearsAfterATakeoverWhereverTheOldWriterStoodStill) {
  ASSERT_TRUE(old_takes().has_value());
  const uint64_t steps = old_fs_.steps();
  ASSERT_GT(steps, 5U);
  int seen_by_the_new = 0;
  for (uint64_t at = 0; at < steps; ++at) {
    SCOPED_TRACE("step " + std::to_string(at));
    begin_again();
    std::vector<std::string> taken_over_with;
    Epoch epoch;
    old_fs_.before_step = [&](uint64_t step) {
      if (step != at) return;
      epoch = *new_store_->claim_epoch("new");
      taken_over_with = ids();
    };
    const auto taken = old_takes();
    old_fs_.before_step = {};
    ASSERT_EQ(epoch.number, old_.number + 1);
    EXPECT_EQ(ids(), taken_over_with) << "the new owner has not seen all that there is";
    // The rename came first, or nothing did.
    EXPECT_TRUE(!taken || taken_over_with.size() == 2U);
    if (taken_over_with.size() == 1) {
      ASSERT_FALSE(taken.has_value());
      EXPECT_EQ(taken.error().code, ErrorCode::kPermission) << taken.error().message;
      EXPECT_THAT(taken.error().message, HasSubstr("took over"));
    } else {
      ++seen_by_the_new;
    }
    EXPECT_FALSE(old_takes().has_value());
    const auto own = take_snapshot(*new_store_, epoch, capture_options(&new_fs_));
    ASSERT_TRUE(own.has_value()) << own.error().message;
    EXPECT_EQ(ids().back(), own->snapshot.id);
    EXPECT_FALSE(verify_snapshots(*new_store_, *new_store_->list())->damaged());
  }
  EXPECT_GT(seen_by_the_new, 0) << "no step was after the rename";
}

// Told "yours" only when the old one can't publish any more, also after a power cut.
TEST_F(FenceTest, AClaimThatFailsOrDiesAtAnyStepLeavesOneOwner) {
  new_fs_.reset_steps();
  ASSERT_TRUE(new_store_->claim_epoch("new").has_value());
  const uint64_t steps = new_fs_.steps();
  ASSERT_GT(steps, 3U);
  for (uint64_t at = 0; at <= steps; ++at) {
    for (const auto mode :
         {FaultFileSystem::CrashMode::kKeepAll, FaultFileSystem::CrashMode::kDropUnsynced}) {
      SCOPED_TRACE("step " + std::to_string(at));
      begin_again();
      new_fs_.reset_steps();
      new_fs_.fail_from(at);
      const auto claimed = new_store_->claim_epoch("new");
      new_fs_.crash(mode);
      const bool may_still = at == 0;  // nothing was claimed
      if (claimed || may_still) {
        EXPECT_EQ(old_takes().has_value(), may_still);
      }
      const auto again = new_store_->claim_epoch("new");
      ASSERT_TRUE(again.has_value()) << again.error().message;
      EXPECT_GT(again->number, old_.number);
      EXPECT_EQ(old_takes().error().code, ErrorCode::kPermission);
    }
  }
}

TEST_F(FenceTest, TwoClaimsAtOnceLeaveOneOwner) {
  Epoch other;
  new_fs_.reset_steps();
  new_fs_.before_step = [&](uint64_t step) {
    // It has read the epoch, and not written its own.
    if (step == 0) other = *open_store()->claim_epoch("third");
  };
  const auto claimed = new_store_->claim_epoch("new");
  new_fs_.before_step = {};
  ASSERT_TRUE(claimed.has_value());
  EXPECT_EQ(claimed->number, other.number) << "neither knew of the other";
  EXPECT_TRUE(take_snapshot(*new_store_, *claimed, capture_options()).has_value());
  write_file(state_ + "/f", "three");
  EXPECT_EQ(take_snapshot(*open_store(), other, capture_options()).error().code,
            ErrorCode::kPermission);
}

TEST_F(FenceTest, AStaleOwnerRemovesNothing) {
  ASSERT_TRUE(new_store_->claim_epoch("new").has_value());
  const auto refused = old_store_->prune({.keep_last = 1, .epoch = old_});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kPermission);
}

TEST_F(FenceTest, OwnersAreRememberedWhereTheirNumberEnds) {
  for (int i = 0; i < 100; ++i) {
    ASSERT_GT(new_store_->claim_epoch("pod-" + std::to_string(i))->number, 0U);
  }
  EXPECT_EQ(new_store_->claim_epoch("pod-98")->number, 0U);
  EXPECT_GT(new_store_->claim_epoch("pod-99")->number, 0U) << "the last one may come again";
  EXPECT_FALSE(new_store_->claim_epoch("a b").has_value());
  EXPECT_FALSE(new_store_->claim_epoch(std::string(65, 'a')).has_value());
}

TEST_F(FenceTest, ADamagedListOfOwnersIsALostEpoch) {
  const std::string good = read_file(store_path_ + "/epoch");
  ASSERT_THAT(good, HasSubstr("owner old\n"));
  for (const char* more : {"owner \n", "owner a", "owner a/b\n", "what else\n", "\n"}) {
    const std::string text = good + more;
    write_file(store_path_ + "/epoch", text);
    EXPECT_EQ(old_takes().error().code, ErrorCode::kPermission) << text;
  }
  EXPECT_GT(new_store_->claim_epoch("new")->number, old_.number);
}

}  // namespace
}  // namespace remora::checkpoint
