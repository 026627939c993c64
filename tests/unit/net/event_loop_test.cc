// The promises of the Loop seam, kept by the real loop.
#include "sidecar/net/event_loop.h"

#include <array>
#include <csignal>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

namespace remora {
namespace {

using testing::ElementsAre;
using namespace std::chrono_literals;

// Far longer than any test takes; only a loop that lost a wake-up gets here.
constexpr auto hung_after = 20s;

struct OnDeath final : Deferred {
  explicit OnDeath(std::function<void()> f) : on_death(std::move(f)) {}
  ~OnDeath() override { on_death(); }
  OnDeath(const OnDeath&) = delete;
  OnDeath& operator=(const OnDeath&) = delete;
  std::function<void()> on_death;
};

class EventLoopTest : public testing::Test {
 protected:
  EventLoopTest() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends.data()), 0);
    near_.reset(ends[0]);
    far_.reset(ends[1]);
  }

  void run() {
    const Subscription watchdog = loop_.add_timer(hung_after, [this] {
      ADD_FAILURE() << "the loop was not stopped";
      loop_.stop();
    });
    loop_.run();
  }
  void note(std::string what) { notes_.push_back(std::move(what)); }

  EventLoop loop_;
  UniqueFd near_;
  UniqueFd far_;
  std::vector<std::string> notes_;
  std::unique_ptr<FdWatch> small_watch_;
};

TEST_F(EventLoopTest, PostedTasksRunInOrderThoseOfTasksLast) {
  loop_.post([this] {
    note("a");
    loop_.post([this] {
      note("c");
      loop_.stop();
    });
    note("a, to its end");
  });
  loop_.post([this] { note("b"); });
  run();
  EXPECT_THAT(notes_, ElementsAre("a", "a, to its end", "b", "c"));
}

TEST_F(EventLoopTest, WhatACallbackPostsRunsAfterItBeforeTheNextWait) {
  const Subscription timer = loop_.add_timer(0ms, [this] {
    loop_.post([this] { note("posted"); });
    note("timer");
  });
  const Subscription later = loop_.add_timer(20ms, [this] {
    note("later timer");
    loop_.stop();
  });
  run();
  EXPECT_THAT(notes_, ElementsAre("timer", "posted", "later timer"));
}

TEST_F(EventLoopTest, TheDeferredDieAfterThePostedTasksInOrder) {
  const Subscription timer = loop_.add_timer(0ms, [this] {
    loop_.defer_delete(std::make_unique<OnDeath>([this] {
      note("first dies");
      // Of the next round, however many there are.
      loop_.defer_delete(std::make_unique<OnDeath>([this] {
        note("its part dies");
        loop_.stop();
      }));
    }));
    loop_.defer_delete(std::make_unique<OnDeath>([this] { note("second dies"); }));
    loop_.post([this] { note("posted"); });
    note("callback");
  });
  run();
  EXPECT_THAT(notes_,
              ElementsAre("callback", "posted", "first dies", "second dies", "its part dies"));
}

TEST(EventLoopEndTest, WhatIsLeftDiesWithTheLoopParts) {
  int deaths = 0;
  {
    EventLoop loop;
    const auto part = [&] { return std::make_unique<OnDeath>([&] { ++deaths; }); };
    for (int i = 0; i < 5; ++i) {
      loop.defer_delete(std::make_unique<OnDeath>([&] {
        ++deaths;
        for (int k = 0; k < 5; ++k) loop.defer_delete(part());
      }));
    }
    // A task that is never run lets go of what it holds, too.
    loop.post([held = std::make_shared<OnDeath>([&] {
                 ++deaths;
                 loop.defer_delete(part());
               })] {});
  }
  EXPECT_EQ(deaths, 5 + 5 * 5 + 1 + 1);
}

TEST_F(EventLoopTest, TasksOfOtherThreadsWakeTheLoopAndKeepTheirOrder) {
  constexpr int per_thread = 2000;
  std::vector<int> last(4, -1);
  int count = 0;
  std::vector<std::thread> threads;
  for (size_t t = 0; t < last.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < per_thread; ++i) {
        loop_.post_from_any_thread([&, t, i] {
          EXPECT_EQ(last[t], i - 1);
          last[t] = i;
          if (++count == per_thread * 4) loop_.stop();
        });
      }
    });
  }
  run();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(count, per_thread * 4);
}

TEST_F(EventLoopTest, ATaskOfAnotherThreadThatComesTooLateIsDestroyedUnrun) {
  const auto held = std::make_shared<int>(0);
  {
    EventLoop loop;
    loop.post([&] { loop.stop(); });
    loop.run();
    loop.post_from_any_thread([held] { ADD_FAILURE(); });
    EXPECT_EQ(held.use_count(), 2);
  }
  EXPECT_EQ(held.use_count(), 1);
}

TEST_F(EventLoopTest, TimersGoOffInOrderOfTheirTimes) {
  std::vector<Subscription> timers;
  // Apart by more than a tick of the kernel's coarse clock.
  for (const int ms : {45, 15, 30, 0}) {
    timers.push_back(loop_.add_timer(std::chrono::milliseconds(ms), [this, ms] {
      note(std::to_string(ms));
      if (ms == 45) loop_.stop();
    }));
  }
  run();
  EXPECT_THAT(notes_, ElementsAre("0", "15", "30", "45"));
}

TEST_F(EventLoopTest, TimersAreNeverEarly) {
  const Clock& clock = loop_.clock();
  std::vector<Subscription> timers;
  int left = 0;
  for (int us = 0; us < 20'000; us += 250) {
    const Duration delay = std::chrono::microseconds(us);
    const MonotonicTime due = clock.now() + delay;
    ++left;
    timers.push_back(loop_.add_timer(delay, [this, &clock, &left, due, us] {
      EXPECT_GE(clock.now(), due) << us;
      if (--left == 0) loop_.stop();
    }));
  }
  run();
  EXPECT_EQ(left, 0);
}

// The loop's idea of now is that of the turn's beginning; a delay counts from the call.
TEST_F(EventLoopTest, ATimerSetLateInALongCallbackIsNotEarly) {
  Subscription second;
  const Subscription first = loop_.add_timer(1ms, [&] {
    const MonotonicTime busy_until = loop_.clock().now() + 30ms;
    while (loop_.clock().now() < busy_until) {
    }
    const MonotonicTime due = loop_.clock().now() + 20ms;
    second = loop_.add_timer(20ms, [&, due] {
      EXPECT_GE(loop_.clock().now(), due);
      loop_.stop();
    });
  });
  run();
  EXPECT_TRUE(second);
}

TEST_F(EventLoopTest, NowStandsStillWithinATurn) {
  const Subscription timer = loop_.add_timer(1ms, [&] {
    const MonotonicTime before = loop_.now();
    const MonotonicTime busy_until = loop_.clock().now() + 5ms;
    while (loop_.clock().now() < busy_until) {
    }
    EXPECT_EQ(loop_.now(), before);
    loop_.post([&, before] { EXPECT_EQ(loop_.now(), before); });
  });
  MonotonicTime first{};
  const Subscription next = loop_.add_timer(20ms, [&] {
    first = loop_.now();
    loop_.stop();
  });
  const MonotonicTime began = loop_.clock().now();
  run();
  EXPECT_GE(first - began, 20ms);
}

TEST_F(EventLoopTest, ACancelledTimerNeverRuns) {
  Subscription cancelled = loop_.add_timer(0ms, [] { ADD_FAILURE(); });
  cancelled.cancel();
  // Due in the same turn, cancelled by the other of the two that comes first.
  Subscription a;
  Subscription b;
  a = loop_.add_timer(0ms, [&] {
    note("one");
    b.cancel();
  });
  b = loop_.add_timer(0ms, [&] {
    note("one");
    a.cancel();
  });
  const Subscription end = loop_.add_timer(10ms, [&] { loop_.stop(); });
  run();
  EXPECT_THAT(notes_, ElementsAre("one"));
}

TEST_F(EventLoopTest, ATimerMayCancelAndReplaceItselfInItsOwnCallback) {
  Subscription timer;
  const auto held = std::make_shared<int>(3);
  std::function<void()> tick = [&, held] {
    timer.cancel();
    note(std::to_string(*held));
    if (--*held == 0) {
      loop_.stop();
    } else {
      timer = loop_.add_timer(0ms, [&] { tick(); });
    }
  };
  timer = loop_.add_timer(0ms, [&] { tick(); });
  run();
  EXPECT_THAT(notes_, ElementsAre("3", "2", "1"));
}

TEST_F(EventLoopTest, AWatchIsCalledForAsLongAsItsEventIsReady) {
  ASSERT_EQ(::write(far_.get(), "ab", 2), 2);
  const auto watch = loop_.watch_fd(near_.get(), FdEvents::kRead, [&](FdEvents what) {
    EXPECT_TRUE(has_read(what));
    char c = 0;
    ASSERT_EQ(::read(near_.get(), &c, 1), 1);
    note(std::string(1, c));
    if (c == 'b') loop_.stop();
  });
  run();
  EXPECT_THAT(notes_, ElementsAre("a", "b"));
}

TEST_F(EventLoopTest, SetEventsSwitchesEachDirection) {
  ASSERT_EQ(::write(far_.get(), "a", 1), 1);
  std::unique_ptr<FdWatch> watch;
  watch = loop_.watch_fd(near_.get(), FdEvents::kWrite, [&](FdEvents what) {
    if (has_write(what)) {
      note("write");
      watch->set_events(FdEvents::kRead);
    } else {
      note("read");
      watch->set_events(FdEvents::kNone);
    }
  });
  const Subscription end = loop_.add_timer(30ms, [&] { loop_.stop(); });
  run();
  EXPECT_THAT(notes_, ElementsAre("write", "read"));
}

TEST_F(EventLoopTest, AHangUpIsReportedToAReader) {
  far_.reset();
  const auto watch = loop_.watch_fd(near_.get(), FdEvents::kRead, [&](FdEvents what) {
    EXPECT_TRUE(has_read(what));
    loop_.stop();
  });
  run();
}

// What the callback captured must live to its end, though its owner is gone.
TEST_F(EventLoopTest, AWatchDestroyedInsideItsCallbackIsNotCalledAgain) {
  ASSERT_EQ(::write(far_.get(), "a", 1), 1);
  std::unique_ptr<FdWatch> watch;
  const auto held = std::make_shared<std::string>("alive");
  // Ready in both directions: the second is of the same batch.
  watch = loop_.watch_fd(near_.get(), FdEvents::kReadWrite, [&, held](FdEvents) {
    watch.reset();
    note(*held);
  });
  small_watch_ = loop_.watch_fd(far_.get(), FdEvents::kWrite,
                                [this, own = std::make_unique<std::string>("small")](FdEvents) {
                                  small_watch_.reset();
                                  note(*own);
                                });
  const Subscription end = loop_.add_timer(20ms, [&] { loop_.stop(); });
  run();
  EXPECT_THAT(notes_, testing::UnorderedElementsAre("alive", "small"));
  EXPECT_EQ(held.use_count(), 1);
}

TEST_F(EventLoopTest, AWatchDestroyedByAnotherOfTheSameBatchIsNotCalled) {
  std::unique_ptr<FdWatch> a;
  std::unique_ptr<FdWatch> b;
  a = loop_.watch_fd(near_.get(), FdEvents::kWrite, [&](FdEvents) {
    note("one");
    a->set_events(FdEvents::kNone);
    b.reset();
  });
  b = loop_.watch_fd(far_.get(), FdEvents::kWrite, [&](FdEvents) {
    note("one");
    b->set_events(FdEvents::kNone);
    a.reset();
  });
  const Subscription end = loop_.add_timer(20ms, [&] { loop_.stop(); });
  run();
  EXPECT_THAT(notes_, ElementsAre("one"));
}

TEST_F(EventLoopTest, SignalsArriveOnTheLoopUntilTheWatchIsGone) {
  Subscription watch;
  watch = loop_.watch_signal(SIGUSR1, [&] {
    note("signal");
    if (notes_.size() == 2) {
      watch.cancel();
      loop_.stop();
    } else {
      loop_.post([] { ::raise(SIGUSR1); });
    }
  });
  loop_.post([] { ::raise(SIGUSR1); });
  run();
  EXPECT_THAT(notes_, ElementsAre("signal", "signal"));
}

TEST_F(EventLoopTest, RunsAgainAfterAStop) {
  for (int i = 0; i < 3; ++i) {
    loop_.post([&] {
      note("ran");
      loop_.stop();
    });
    run();
  }
  EXPECT_EQ(notes_.size(), 3u);
}

}  // namespace
}  // namespace remora
