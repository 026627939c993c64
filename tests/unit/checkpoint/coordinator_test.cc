#include "checkpoint/coordinator.h"

#include <condition_variable>
#include <deque>
#include <mutex>

#include "checkpoint/memory_store.h"
#include "tests/unit/checkpoint/checkpoint_fixture.h"

namespace remora::checkpoint {
namespace {

// The loop's side: posted functions wait here until the test runs them.
class PostQueue {
 public:
  Coordinator::Post post() {
    return [this](std::move_only_function<void()> f) {
      const std::lock_guard lock(mutex_);
      posted_.push_back(std::move(f));
      wake_.notify_one();
    };
  }
  // Waits for one and runs it; false after ten seconds without.
  bool run_one() {
    std::move_only_function<void()> f;
    {
      std::unique_lock lock(mutex_);
      if (!wake_.wait_for(lock, std::chrono::seconds(10), [this] { return !posted_.empty(); })) {
        return false;
      }
      f = std::move(posted_.front());
      posted_.pop_front();
    }
    f();
    return true;
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::move_only_function<void()>> posted_;
};

class CoordinatorTest : public CheckpointTest {
 protected:
  CoordinatorOptions options() {
    CoordinatorOptions out;
    out.state_dir = state_;
    out.keep_last = 2;
    out.clock = &clock_;
    return out;
  }
  std::unique_ptr<Coordinator> open(CoordinatorOptions with) {
    auto coordinator = Coordinator::open(store_path_, std::move(with), queue_.post());
    EXPECT_TRUE(coordinator.has_value()) << coordinator.error().message;
    return std::move(*coordinator);
  }
  Result<TakeResult> take_and_wait(Coordinator& coordinator, const std::string& reason) {
    std::optional<Result<TakeResult>> out;
    coordinator.take(reason, [&](Result<TakeResult> result) { out = std::move(result); });
    EXPECT_FALSE(out.has_value()) << "completions are posted, never inline";
    while (!out && queue_.run_one()) {
    }
    return out ? std::move(*out) : Result<TakeResult>(std::unexpected<Error>(Error{}));
  }

  PostQueue queue_;
};

TEST_F(CoordinatorTest, TakesChecksAndRestores) {
  const auto coordinator = open(options());
  write_file(state_ + "/f", "one");
  const auto taken = take_and_wait(*coordinator, "interval");
  ASSERT_TRUE(taken.has_value()) << taken.error().message;
  EXPECT_EQ(taken->capture.snapshot.record.reason, "interval");
  EXPECT_EQ(taken->capture.snapshot.record.epoch, 1U);

  std::filesystem::remove_all(state_);
  std::optional<StateVerdict> verdict;
  std::optional<RestoreReport> restored;
  coordinator->check_state([&](Result<StateVerdict> result) { verdict = *result; });
  ASSERT_TRUE(queue_.run_one());
  EXPECT_TRUE(verdict->damaged);
  EXPECT_EQ(verdict->problem, "the state directory is gone");
  coordinator->restore_latest([&](Result<RestoreReport> result) { restored = *result; });
  ASSERT_TRUE(queue_.run_one());
  EXPECT_EQ(restored->snapshot.id, taken->capture.snapshot.id);
  EXPECT_EQ(read_file(state_ + "/f"), "one");
}

TEST_F(CoordinatorTest, AnUnchangedStateAddsNoSnapshotAndOldOnesArePruned) {
  const auto coordinator = open(options());
  for (int i = 0; i < 4; ++i) {
    write_file(state_ + "/f", std::to_string(i));
    ASSERT_TRUE(take_and_wait(*coordinator, "interval").has_value());
    const auto again = take_and_wait(*coordinator, "interval");
    EXPECT_TRUE(again->capture.unchanged);
  }
  EXPECT_EQ(open_store()->list()->size(), 2U);
}

TEST_F(CoordinatorTest, OverlappingTakesShareOne) {
  const auto coordinator = open(options());
  write_file(state_ + "/f", "one");
  std::vector<std::string> ids;
  for (int i = 0; i < 6; ++i) {
    coordinator->take("manual", [&](Result<TakeResult> result) {
      ids.push_back(result->capture.snapshot.id + (result->capture.unchanged ? "=" : ""));
    });
  }
  while (ids.size() < 6) ASSERT_TRUE(queue_.run_one());
  // The first for itself, the five that came meanwhile together.
  EXPECT_FALSE(ids[0].ends_with('='));
  for (size_t i = 1; i < 6; ++i) EXPECT_EQ(ids[i], ids[0] + "=");
}

TEST_F(CoordinatorTest, ADamagedStateIsNotTaken) {
  const auto coordinator = open(options());
  write_file(state_ + "/f", "one");
  ASSERT_TRUE(take_and_wait(*coordinator, "interval").has_value());
  std::filesystem::remove(state_ + "/f");
  const auto refused = take_and_wait(*coordinator, "interval");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(open_store()->list()->size(), 1U);
}

TEST_F(CoordinatorTest, ARestoreCutsARunningTakeShort) {
  write_file(state_ + "/f", "one");
  auto first = open(options());
  ASSERT_TRUE(take_and_wait(*first, "interval").has_value());
  first.reset();

  // Holds the capture in its stop until the restore has been asked for.
  std::mutex mutex;
  std::condition_variable wake;
  bool asked = false;
  CoordinatorOptions slow = options();
  slow.make_quiesce = [&]() -> Quiesce {
    return {.stop = [&]() -> Result<void> {
              std::unique_lock lock(mutex);
              wake.wait(lock, [&] { return asked; });
              return {};
            },
            .cont = [] { return Result<QuietPeriod>(QuietPeriod{}); }};
  };
  const auto coordinator = open(std::move(slow));
  write_file(state_ + "/f", "two");
  std::optional<Result<TakeResult>> taken;
  std::optional<Result<RestoreReport>> restored;
  coordinator->take("interval", [&](Result<TakeResult> result) { taken = std::move(result); });
  coordinator->restore_latest([&](Result<RestoreReport> r) { restored = std::move(r); });
  {
    const std::lock_guard lock(mutex);
    asked = true;
  }
  wake.notify_one();
  while (!restored) ASSERT_TRUE(queue_.run_one());
  EXPECT_EQ(taken->error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(restored->has_value());
  EXPECT_EQ(read_file(state_ + "/f"), "one");
}

TEST_F(CoordinatorTest, AfterItsEndNothingIsCalled) {
  auto coordinator = open(options());
  write_file(state_ + "/f", "one");
  bool called = false;
  coordinator->take("interval", [&](Result<TakeResult>) { called = true; });
  coordinator.reset();
  // The job may have finished and posted, or been dropped: either way nothing is told.
  coordinator = open(options());
  ASSERT_TRUE(take_and_wait(*coordinator, "interval").has_value());
  EXPECT_FALSE(called);
}

TEST_F(CoordinatorTest, ASecondOneFencesTheFirst) {
  const auto first = open(options());
  write_file(state_ + "/f", "one");
  ASSERT_TRUE(take_and_wait(*first, "interval").has_value());
  const auto second = open(options());
  write_file(state_ + "/f", "two");
  EXPECT_EQ(take_and_wait(*first, "interval").error().code, ErrorCode::kPermission);
  EXPECT_TRUE(take_and_wait(*second, "interval").has_value());
}

TEST_F(CoordinatorTest, ThatItsStoreWasTakenOverIsToldOnceAndNothingMoreIsTried) {
  CoordinatorOptions first_options = options();
  first_options.owner = "pod-1";
  std::vector<std::string> told;
  first_options.on_taken_over = [&](const Error& why) { told.push_back(why.message); };
  bool asked = false;
  first_options.make_quiesce = [&]() -> Quiesce {
    asked = true;
    return {};
  };
  const auto first = open(first_options);
  EXPECT_EQ(first->epoch(), 1U);
  write_file(state_ + "/f", "one");
  ASSERT_TRUE(take_and_wait(*first, "interval").has_value());
  CoordinatorOptions second_options = options();
  second_options.owner = "pod-2";
  const auto second = open(second_options);
  // Also where nothing has changed, and so nothing would have been published.
  EXPECT_EQ(take_and_wait(*first, "interval").error().code, ErrorCode::kPermission);
  EXPECT_EQ(first->epoch(), 0U);
  ASSERT_TRUE(queue_.run_one());
  asked = false;
  EXPECT_EQ(take_and_wait(*first, "interval").error().code, ErrorCode::kPermission);
  EXPECT_FALSE(asked) << "the agent was about to be stopped for nothing";
  ASSERT_EQ(told.size(), 1U);
  EXPECT_NE(told[0].find("took over"), std::string::npos) << told[0];

  // Its container begins anew: it reads, and does not take the store back.
  const auto again = open(first_options);
  EXPECT_EQ(again->epoch(), 0U);
  ASSERT_TRUE(queue_.run_one());
  EXPECT_EQ(told.size(), 2U);
  std::optional<Result<RestoreReport>> restored;
  again->restore_latest([&](Result<RestoreReport> r) { restored = std::move(r); });
  ASSERT_TRUE(queue_.run_one());
  EXPECT_TRUE(restored->has_value());
  write_file(state_ + "/f", "two");
  EXPECT_TRUE(take_and_wait(*second, "interval").has_value());
}

TEST_F(CoordinatorTest, AStoreIsGivenUpByWordOfSomebodyElse) {
  std::vector<std::string> told;
  CoordinatorOptions with = options();
  with.on_taken_over = [&](const Error& why) { told.push_back(why.message); };
  const auto coordinator = open(with);
  write_file(state_ + "/f", "one");
  coordinator->give_up_store("the pod is being moved");
  coordinator->give_up_store("again");
  EXPECT_EQ(take_and_wait(*coordinator, "interval").error().message, "the pod is being moved");
  EXPECT_EQ(told, std::vector<std::string>{"the pod is being moved"});
  EXPECT_TRUE(open_store()->list()->empty());
}

TEST_F(CoordinatorTest, WorksOnAnyStore) {
  auto coordinator =
      Coordinator::create(std::make_unique<MemoryStore>(scratch_.path()), options(), queue_.post());
  ASSERT_TRUE(coordinator.has_value());
  write_file(state_ + "/f", "one");
  EXPECT_TRUE(take_and_wait(**coordinator, "interval").has_value());
}

TEST_F(CoordinatorTest, ANewerStoreIsRefusedOnOpening) {
  open_store();
  write_file(store_path_ + "/format", "remora snapshot store\nversion 9\n");
  EXPECT_EQ(Coordinator::open(store_path_, options(), queue_.post()).error().code,
            ErrorCode::kUnsupportedVersion);
}

}  // namespace
}  // namespace remora::checkpoint
