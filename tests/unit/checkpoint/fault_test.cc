// Every step that changes the disk, failed: by an error, by the death of the process, and by a
// power cut that drops what was not synced. After each, every listed snapshot must verify, the
// state must be whole, and the store must work again.
#include "checkpoint/verify.h"
#include "tests/fakes/fault_file_system.h"
#include "tests/unit/checkpoint/checkpoint_fixture.h"

namespace remora::checkpoint {
namespace {

using CrashMode = FaultFileSystem::CrashMode;

class FaultTest : public CheckpointTest {
 protected:
  FaultTest() {
    std::filesystem::create_directory(scratch_ / "stash");
    fs_ = std::make_unique<FaultFileSystem>(scratch_ / "stash");
  }

  void write_state(int version) {
    write_file(state_ + "/a", "version " + std::to_string(version));
    write_file(state_ + "/sub/b", noise(100'000, static_cast<uint64_t>(version)));
    write_file(state_ + "/same", noise(50'000));
  }

  // Everything that is listed is whole; the number of snapshots.
  size_t expect_sound(const std::string& where) {
    const auto store = open_store();
    auto all = store->list();
    EXPECT_TRUE(all.has_value());
    const auto report = verify_snapshots(*store, *all);
    EXPECT_TRUE(report.has_value());
    EXPECT_FALSE(report->damaged()) << where;
    return all->size();
  }

  // Back to one store with snapshot 1 of state version 1, and state version 2 on the disk.
  void begin_again() {
    std::filesystem::remove_all(store_path_);
    std::filesystem::remove_all(state_);
    write_state(1);
    fs_ = std::make_unique<FaultFileSystem>(scratch_ / "stash");
    auto store = open_store(fs_.get());
    take(*store, fs_.get());
    write_state(2);
    fs_->reset_steps();
  }

  std::unique_ptr<FaultFileSystem> fs_;
};

TEST_F(FaultTest, ATakeKilledAtAnyStepLosesOnlyItself) {
  begin_again();
  take(*open_store(fs_.get()), fs_.get());
  const uint64_t steps = fs_->steps();
  ASSERT_GT(steps, 5U);
  for (const CrashMode mode : {CrashMode::kKeepAll, CrashMode::kDropUnsynced}) {
    for (uint64_t step = 0; step <= steps; ++step) {
      begin_again();
      bool reported = false;
      {
        auto store = open_store(fs_.get());
        fs_->fail_from(step);
        reported = try_take(*store, fs_.get()).has_value();
        fs_->crash(mode);
      }
      const std::string where = "step " + std::to_string(step);
      const size_t count = expect_sound(where);
      // Told "done" only when it survives; never less than the old one.
      EXPECT_TRUE(reported ? count == 2 : count >= 1) << where;
      // Works again, and leftovers go.
      take(*open_store());
      ASSERT_EQ(expect_sound(where), count + 1);
      EXPECT_TRUE(std::filesystem::is_empty(store_path_ + "/tmp")) << where;
    }
  }
}

TEST_F(FaultTest, MakingAStoreSurvivesDeathAtAnyStep) {
  write_state(1);
  for (uint64_t step = 0; step < 20; ++step) {
    for (const CrashMode mode : {CrashMode::kKeepAll, CrashMode::kDropUnsynced}) {
      std::filesystem::remove_all(store_path_);
      FaultFileSystem fs(scratch_ / "stash");
      fs.fail_from(step);
      static_cast<void>(
          LocalStore::open({.root = store_path_, .mode = OpenMode::kCreate, .file_system = &fs}));
      fs.crash(mode);
      take(*open_store());
      EXPECT_EQ(expect_sound("step " + std::to_string(step)), 1U);
    }
  }
}

TEST_F(FaultTest, AFailedFsyncMeansNotPublished) {
  begin_again();
  take(*open_store(fs_.get()), fs_.get());
  const uint64_t steps = fs_->steps();
  begin_again();
  auto store = open_store(fs_.get());
  fs_->fail_calls(FaultFileSystem::Call::kSync, EIO);
  const auto refused = try_take(*store, fs_.get());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kIo);
  EXPECT_EQ(store->list()->size(), 1U);
  store.reset();
  // Each single failing step, fsyncs among them, with the process alive to clean up.
  for (uint64_t step = 0; step < steps; ++step) {
    begin_again();
    {
      auto again = open_store(fs_.get());
      fs_->reset_steps();
      fs_->fail_once(step, EIO);
      const bool done = try_take(*again, fs_.get()).has_value();
      EXPECT_EQ(again->list()->size(), done ? 2U : 1U) << "step " << step;
    }
    EXPECT_TRUE(std::filesystem::is_empty(store_path_ + "/tmp")) << "step " << step;
    expect_sound("step " + std::to_string(step));
  }
}

TEST_F(FaultTest, ADiskThatFillsUpMidwayCostsNothingButTheSnapshot) {
  begin_again();
  for (uint64_t budget = 0; budget < 100'000; budget += 9'973) {
    auto store = open_store(fs_.get());
    fs_->set_write_budget(budget);
    const auto refused = try_take(*store, fs_.get());
    ASSERT_FALSE(refused.has_value()) << budget;
    EXPECT_EQ(refused.error().code, ErrorCode::kNoSpace);
    EXPECT_NE(refused.error().message.find("free some space"), std::string::npos);
    EXPECT_TRUE(std::filesystem::is_empty(store_path_ + "/tmp")) << budget;
    EXPECT_EQ(expect_sound("budget " + std::to_string(budget)), 1U);
    fs_->heal();
  }
  auto store = open_store(fs_.get());
  take(*store, fs_.get());  // space is back
  EXPECT_EQ(expect_sound("after"), 2U);
}

TEST_F(FaultTest, AFullVolumeIsSeenBeforeAnythingIsWritten) {
  begin_again();
  auto store = open_store(fs_.get());
  const uint64_t before = fs_->steps();
  fs_->set_free_bytes(100'000);
  EXPECT_EQ(try_take(*store, fs_.get()).error().code, ErrorCode::kNoSpace);
  EXPECT_EQ(restore_latest(*store, restore_options(fs_.get())).error().code, ErrorCode::kNoSpace);
  EXPECT_EQ(fs_->steps(), before);
}

TEST_F(FaultTest, APruneKilledAtAnyStepLosesNothingThatIsKept) {
  const auto prepare = [&] {
    begin_again();
    // Enough versions that packs are removed, and others repacked.
    auto store = open_store(fs_.get());
    for (int version = 2; version < 6; ++version) {
      write_state(version);
      take(*store, fs_.get());
    }
    fs_->reset_steps();
    return store;
  };
  {
    auto store = prepare();
    const auto report = store->prune({.keep_last = 1});
    ASSERT_TRUE(report.has_value());
    EXPECT_GT(report->removed_chunks, 4U);
  }
  const uint64_t steps = fs_->steps();
  ASSERT_GT(steps, 6U);
  for (const CrashMode mode : {CrashMode::kKeepAll, CrashMode::kDropUnsynced}) {
    for (uint64_t step = 0; step < steps; ++step) {
      {
        auto store = prepare();
        fs_->fail_from(step);
        EXPECT_FALSE(store->prune({.keep_last = 1}).has_value()) << step;
        fs_->crash(mode);
      }
      const std::string where = "step " + std::to_string(step);
      EXPECT_GE(expect_sound(where), 1U);
      auto store = open_store();
      ASSERT_TRUE(store->prune({.keep_last = 1}).has_value()) << where;
      store.reset();
      EXPECT_EQ(expect_sound(where), 1U);
      RestoreOptions to = restore_options();
      to.state_dir = scratch_ / "out";
      std::filesystem::remove_all(to.state_dir);
      ASSERT_TRUE(restore_latest(*open_store(), to).has_value()) << where;
      EXPECT_EQ(tree_of(to.state_dir), tree_of(state_)) << where;
    }
  }
}

TEST_F(FaultTest, AVolumeWhoseOwnDirectoryIsNotOursIsRestoredAllTheSame) {
  begin_again();  // snapshot of version 1, state of version 2
  fs_->mount_point = state_;
  fs_->not_ours = state_;
  const auto report = restore_latest(*open_store(fs_.get()), restore_options(fs_.get()));
  ASSERT_TRUE(report.has_value()) << report.error().message;
  EXPECT_TRUE(report->in_place);
  EXPECT_EQ(read_file(state_ + "/a"), "version 1");
  EXPECT_FALSE(*has_unfinished_restore(real_file_system(), state_));
}

// The state is what it was or what the snapshot says; or so plainly broken that the check before
// the agent's start finds it, and the former state is still there.
class RestoreFault : public FaultTest, public testing::WithParamInterface<bool> {
 protected:
  void prepare() {
    for (const auto& entry : std::filesystem::directory_iterator(scratch_.path())) {
      if (entry.path().filename().string().starts_with("state.")) {
        std::filesystem::remove_all(entry.path());
      }
    }
    begin_again();  // snapshot of version 1, state of version 2
    if (GetParam()) fs_->mount_point = state_;
  }
};

TEST_P(RestoreFault, ARestoreKilledAtAnyStepLeavesOneWholeState) {
  prepare();
  const auto now = tree_of(state_);
  {
    auto store = open_store(fs_.get());
    fs_->reset_steps();
    const auto report = restore_latest(*store, restore_options(fs_.get()));
    ASSERT_TRUE(report.has_value()) << report.error().message;
    EXPECT_EQ(report->in_place, GetParam());
    EXPECT_EQ(tree_of(report->set_aside), now);
  }
  std::filesystem::remove_all(state_);
  write_state(1);
  const auto version_1 = tree_of(state_);
  const uint64_t steps = fs_->steps();
  ASSERT_GT(steps, 8U);
  for (const CrashMode mode : {CrashMode::kKeepAll, CrashMode::kDropUnsynced}) {
    for (uint64_t step = 0; step < steps; ++step) {
      prepare();
      const auto before = tree_of(state_);
      auto store = open_store(fs_.get());
      fs_->reset_steps();
      fs_->fail_from(step);
      static_cast<void>(restore_latest(*store, restore_options(fs_.get())));
      fs_->crash(mode);
      const std::string where = "step " + std::to_string(step);
      auto after = tree_of(state_);
      std::erase_if(after, [](const auto& item) { return item.first.starts_with(".remora-"); });
      const bool old_state = after == before;
      const bool new_state = after == version_1;
      const bool announced =
          !std::filesystem::exists(state_) || *has_unfinished_restore(real_file_system(), state_);
      EXPECT_TRUE(old_state || new_state || announced) << where;
      // Again, undisturbed: the snapshot is there, and nothing of the old state is lost.
      ASSERT_TRUE(restore_latest(*open_store(), restore_options()).has_value()) << where;
      EXPECT_EQ(read_file(state_ + "/a"), "version 1") << where;
      bool kept = false;
      for (const auto& entry : std::filesystem::recursive_directory_iterator(scratch_.path())) {
        kept = kept || (entry.path().string().find(".remora-damaged-") != std::string::npos &&
                        entry.is_regular_file() && read_file(entry.path()) == "version 2");
      }
      EXPECT_TRUE(kept) << where;
    }
  }
}
INSTANTIATE_TEST_SUITE_P(, RestoreFault, testing::Bool(), [](const auto& param_info) {
  return param_info.param ? "InAMountPoint" : "BesideTheState";
});

TEST_F(FaultTest, WithoutAnAtomicExchangeTwoRenamesDo) {
  begin_again();
  fs_->exchange_works = false;
  const auto before = tree_of(state_);
  const auto report = restore_latest(*open_store(fs_.get()), restore_options(fs_.get()));
  ASSERT_TRUE(report.has_value()) << report.error().message;
  EXPECT_EQ(read_file(state_ + "/a"), "version 1");
  EXPECT_EQ(tree_of(report->set_aside), before);
}

}  // namespace
}  // namespace remora::checkpoint
