// Queues of work in virtual time.
#include "k8s/watch/work_queue.h"

#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/fakes/fake_loop.h"

namespace remora::k8s {
namespace {

using testing::ElementsAre;
using namespace std::chrono_literals;

class WorkQueueTest : public testing::Test {
 protected:
  WorkQueueTest()
      : queue_(loop_, {.workers_max = 2}, [this](const std::string& key, WorkQueue::Done done) {
          looks_.push_back(key);
          times_.push_back(loop_.now());
          if (waits_) {
            EXPECT_FALSE(under_way_.contains(key)) << "looked at twice at the same time";
            under_way_[key] = std::move(done);
          } else {
            done(outcome_);
          }
        }) {}
  void end(const std::string& key, WorkOutcome outcome = {}) {
    auto done = under_way_.extract(key);
    done.mapped()(outcome);
  }

  FakeLoop loop_;
  bool waits_ = false;
  WorkOutcome outcome_;
  std::vector<std::string> looks_;
  std::vector<MonotonicTime> times_;
  std::map<std::string, WorkQueue::Done> under_way_;
  WorkQueue queue_;
};

TEST_F(WorkQueueTest, WhatIsAddedManyTimesIsLookedAtOnce) {
  for (int i = 0; i < 1000; ++i) queue_.add("a");
  queue_.add("b");
  EXPECT_EQ(queue_.waiting(), 2u);
  loop_.run_ready();
  EXPECT_THAT(looks_, ElementsAre("a", "b"));
  loop_.run_for(1h);
  EXPECT_EQ(looks_.size(), 2u);
}

TEST_F(WorkQueueTest, AChangeDuringALookMakesOneMoreLookAfterwards) {
  waits_ = true;
  queue_.add("a");
  loop_.run_ready();
  for (int i = 0; i < 5; ++i) queue_.add("a");
  loop_.run_ready();
  EXPECT_THAT(looks_, ElementsAre("a"));
  end("a");
  loop_.run_ready();
  EXPECT_THAT(looks_, ElementsAre("a", "a"));
  end("a");
  loop_.run_for(1h);
  EXPECT_EQ(looks_.size(), 2u);
}

TEST_F(WorkQueueTest, NoMoreThanTheLimitAreUnderWay) {
  waits_ = true;
  for (const char* key : {"a", "b", "c", "d"}) queue_.add(key);
  loop_.run_ready();
  EXPECT_THAT(looks_, ElementsAre("a", "b"));
  EXPECT_EQ(queue_.under_way(), 2u);
  loop_.run_for(5s);
  EXPECT_EQ(queue_.oldest_wait(), 5s);
  end("b");
  loop_.run_ready();
  EXPECT_THAT(looks_, ElementsAre("a", "b", "c"));
}

TEST_F(WorkQueueTest, FailuresPauseLongerEachTimeUpToALimitAndASuccessForgetsThem) {
  outcome_.failed = true;
  queue_.add("a");
  loop_.run_for(10min);
  std::vector<Duration> pauses;
  for (size_t i = 1; i < times_.size(); ++i) pauses.push_back(times_[i] - times_[i - 1]);
  ASSERT_GE(pauses.size(), 12u);
  EXPECT_LE(pauses[0], 200ms);
  EXPECT_GE(pauses[0], 100ms);
  for (size_t i = 0; i < 8; ++i) {
    const Duration whole = 200ms * (1 << i);
    EXPECT_GE(pauses[i], whole / 2) << i;
    EXPECT_LE(pauses[i], whole) << i;
  }
  for (const Duration pause : pauses) EXPECT_LE(pause, 60s);
  EXPECT_GE(pauses.back(), 30s);
  outcome_.failed = false;
  queue_.add("a");
  loop_.run_ready();
  outcome_.failed = true;
  queue_.add("a");
  loop_.run_ready();
  const size_t before = looks_.size();
  loop_.run_for(200ms);
  EXPECT_GT(looks_.size(), before);
}

TEST_F(WorkQueueTest, OneThatFailsDoesNotHoldUpOthers) {
  outcome_.failed = true;
  queue_.add("a");
  loop_.run_for(1min);
  outcome_.failed = false;
  queue_.add("b");
  loop_.run_ready();
  EXPECT_EQ(looks_.back(), "b");
}

TEST_F(WorkQueueTest, AServersRetryAfterReplacesThePause) {
  outcome_ = {.failed = true, .again_after = 7s};
  queue_.add("a");
  loop_.run_for(7s);
  ASSERT_EQ(times_.size(), 2u);
  EXPECT_EQ(times_[1] - times_[0], 7s);
}

TEST_F(WorkQueueTest, ALookMayAskForTheNextOne) {
  outcome_.again_after = 30s;
  queue_.add("a");
  loop_.run_for(61s);
  EXPECT_EQ(looks_.size(), 3u);
}

TEST_F(WorkQueueTest, ALaterLookComesAtOnceWhenSomethingHappens) {
  queue_.add_after("a", 1h);
  loop_.run_for(1min);
  EXPECT_TRUE(looks_.empty());
  queue_.add("a");
  loop_.run_ready();
  EXPECT_EQ(looks_.size(), 1u);
  loop_.run_for(2h);
  EXPECT_EQ(looks_.size(), 1u);
}

TEST_F(WorkQueueTest, WhatEndsAfterAClearHasNoEffect) {
  waits_ = true;
  queue_.add("a");
  queue_.add("b");
  loop_.run_ready();
  queue_.clear();
  queue_.add("a");
  auto stale = under_way_.extract("a");
  loop_.run_ready();
  stale.mapped()({.failed = true});
  EXPECT_EQ(queue_.under_way(), 1u);
  EXPECT_EQ(queue_.failures(), 0u);
}

}  // namespace
}  // namespace remora::k8s
