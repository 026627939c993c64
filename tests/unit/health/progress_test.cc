// When readings are taken and what comes of them: in virtual time, on real processes.
#include "sidecar/health/progress.h"

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/fakes/fake_loop.h"
#include "tests/unit/health/child_process.h"

namespace remora {
namespace {

using namespace std::chrono_literals;
using ::testing::IsEmpty;

class SamplerTest : public testing::Test {
 protected:
  void make(ProgressOptions options = {}) {
    sampler_.emplace(
        loop_, std::move(options), [this] { return in_flight_; },
        [this](const Observation& observation) {
          seen_.push_back(observation);
          if (on_observation_) on_observation_(observation);
        });
  }
  template <typename Kind>
  std::vector<Kind> of() const {
    std::vector<Kind> found;
    for (const Observation& observation : seen_) {
      if (const Kind* what = std::get_if<Kind>(&observation.what)) found.push_back(*what);
    }
    return found;
  }

  FakeLoop loop_;
  InFlight in_flight_;
  std::vector<Observation> seen_;
  std::move_only_function<void(const Observation&)> on_observation_;
  const ChildProcess agent_{[] {
    for (;;) ::pause();
  }};
  std::optional<ProgressSampler> sampler_;
};

TEST_F(SamplerTest, SamplesAtItsIntervalAndNeverFromInsideStart) {
  make();
  sampler_->start(3, agent_.pid());
  EXPECT_THAT(seen_, IsEmpty());
  loop_.run_for(10500ms);
  const auto samples = of<ProgressSample>();
  EXPECT_EQ(samples.size(), 10u);
  EXPECT_EQ(of<OverloadSample>().size(), 10u);
  EXPECT_EQ(samples[0].generation, 3u);
  EXPECT_TRUE(samples[0].process_seen);
  EXPECT_EQ(seen_[0].at, loop_.now() - 9500ms);
}

TEST_F(SamplerTest, AWindowHoldsFourSamplesAtLeast) {
  make({.hang_window = 2s});
  sampler_->start(1, agent_.pid());
  loop_.run_for(2s);
  EXPECT_EQ(of<ProgressSample>().size(), 4u);
}

TEST_F(SamplerTest, PassesOnWhatTheProxyKnows) {
  in_flight_ = {.count = 2,
                .oldest_age = 100ms,
                .oldest_request = "POST /invoke",
                .requests_started = 9,
                .bytes_from_agent = 77,
                .rejected = 4,
                .in_flight_max = 64};
  make();
  sampler_->start(1, agent_.pid());
  loop_.run_for(1s);
  const ProgressSample sample = of<ProgressSample>().at(0);
  EXPECT_EQ(sample.in_flight, 2u);
  EXPECT_EQ(sample.oldest_age, 100ms);
  EXPECT_EQ(sample.oldest_request, "POST /invoke");
  EXPECT_EQ(sample.requests_started, 9u);
  EXPECT_EQ(sample.bytes_from_agent, 77u);
  const OverloadSample overload = of<OverloadSample>().at(0);
  EXPECT_EQ(overload.rejected, 4u);
  EXPECT_EQ(overload.in_flight, 2u);
  EXPECT_EQ(overload.in_flight_max, 64u);
}

TEST_F(SamplerTest, LooksCloselyOnlyWhileSomethingStaysOrIsSuspected) {
  make();
  sampler_->start(1, agent_.pid());
  const auto looks_closely = [&] {
    seen_.clear();
    loop_.run_for(1s);
    const bool threads = !of<ProgressSample>().at(0).threads.empty();
    EXPECT_EQ(of<DeadlockSample>().size(), threads ? 1u : 0u);
    return threads;
  };
  EXPECT_FALSE(looks_closely()) << "idle";
  in_flight_.count = 1;
  in_flight_.oldest_age = 499ms;
  EXPECT_FALSE(looks_closely()) << "just come";
  in_flight_.oldest_age = 500ms;
  EXPECT_TRUE(looks_closely());
  in_flight_ = {};
  EXPECT_FALSE(looks_closely());
  sampler_->set_suspicious(true);
  EXPECT_TRUE(looks_closely());
  sampler_->set_suspicious(false);
  EXPECT_FALSE(looks_closely());
}

TEST_F(SamplerTest, LocksComeBeforeProgressSoThatADeadlockIsCalledOne) {
  make();
  sampler_->set_suspicious(true);
  sampler_->start(5, agent_.pid());
  loop_.run_for(1s);
  ASSERT_EQ(seen_.size(), 3u);
  const auto* locks = std::get_if<DeadlockSample>(&seen_[0].what);
  ASSERT_NE(locks, nullptr);
  EXPECT_EQ(locks->generation, 5u);
  EXPECT_EQ(locks->pid, agent_.pid());
  EXPECT_TRUE(std::holds_alternative<ProgressSample>(seen_[1].what));
  EXPECT_TRUE(std::holds_alternative<OverloadSample>(seen_[2].what));
}

TEST_F(SamplerTest, LocksAreNotReadWhenSwitchedOff) {
  make({.deadlock = false});
  sampler_->set_suspicious(true);
  sampler_->start(1, agent_.pid());
  loop_.run_for(3s);
  EXPECT_THAT(of<DeadlockSample>(), IsEmpty());
  EXPECT_EQ(of<ProgressSample>().size(), 3u);
  sampler_->set_options({});
  loop_.run_for(1s);
  EXPECT_EQ(of<DeadlockSample>().size(), 1u);
}

TEST_F(SamplerTest, FindsADeadlockInAProcessBelowTheAgent) {
  const ChildProcess agent([] {
    // The worker, a process of its own, locks itself up; the agent waits for it.
    if (::fork() == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      std::mutex held;
      held.lock();
      std::thread other([&] { held.lock(); });
      other.join();
    }
    ::wait(nullptr);
  });
  make();
  sampler_->set_suspicious(true);
  sampler_->start(1, agent.pid());
  EXPECT_TRUE(eventually([&] {
    seen_.clear();
    loop_.run_for(1s);
    return of<DeadlockSample>().at(0).cycle.size() == 2;
  }));
  EXPECT_NE(of<DeadlockSample>()[0].pid, agent.pid());
}

TEST_F(SamplerTest, StopIsFinal) {
  make();
  sampler_->start(1, agent_.pid());
  loop_.run_for(2s);
  seen_.clear();
  sampler_->stop();
  loop_.run_for(1min);
  EXPECT_THAT(seen_, IsEmpty());
  sampler_->start(2, agent_.pid());
  loop_.run_for(1s);
  EXPECT_EQ(of<ProgressSample>().at(0).generation, 2u);
}

TEST_F(SamplerTest, AnAgentThatIsGoneIsNotSeen) {
  pid_t gone = 0;
  {
    const ChildProcess short_lived([] {});
    gone = short_lived.pid();
  }
  make();
  sampler_->set_suspicious(true);
  sampler_->start(1, gone);
  loop_.run_for(1s);
  EXPECT_FALSE(of<ProgressSample>().at(0).process_seen);
}

TEST_F(SamplerTest, TheSinkMayStopOrDestroyItAfterAnyObservation) {
  for (size_t last = 1; last <= 3; ++last) {
    for (const bool destroys : {false, true}) {
      seen_.clear();
      make();
      sampler_->set_suspicious(true);
      sampler_->start(1, agent_.pid());
      on_observation_ = [&](const Observation&) {
        if (seen_.size() < last) return;
        if (destroys) {
          sampler_.reset();
        } else {
          sampler_->stop();
        }
      };
      loop_.run_for(10s);
      EXPECT_EQ(seen_.size(), last);
    }
  }
}

// A loop whose clock goes on while something is read, as it does on a slow /proc.
class SlowReadings : public SamplerTest {
 protected:
  ~SlowReadings() override { sampler_.reset(); }  // before its loop
  SlowReadings() = default;
  SlowReadings(const SlowReadings&) = delete;
  SlowReadings& operator=(const SlowReadings&) = delete;

  class SlowClock final : public Clock {
   public:
    explicit SlowClock(const Clock& clock) : clock_(clock) {}
    MonotonicTime now() const override { return clock_.now() + delay_ * ++asked_; }
    WallTime wall_now() const override { return clock_.wall_now(); }

   private:
    const Clock& clock_;
    const Duration delay_ = std::chrono::microseconds(reading_budget_us_max + 1);
    mutable int asked_ = 0;
  };
  class SlowLoop final : public Loop {
   public:
    explicit SlowLoop(FakeLoop& loop) : loop_(loop), clock_(loop.clock()) {}
    const Clock& clock() const override { return clock_; }
    MonotonicTime now() const override { return loop_.now(); }
    void post(Task task) override { loop_.post(std::move(task)); }
    void post_from_any_thread(Task task) override { loop_.post_from_any_thread(std::move(task)); }
    Subscription add_timer(Duration delay, Task task) override {
      return loop_.add_timer(delay, std::move(task));
    }
    std::unique_ptr<FdWatch> watch_fd(int fd, FdEvents events,
                                      std::move_only_function<void(FdEvents)> callback) override {
      return loop_.watch_fd(fd, events, std::move(callback));
    }
    Subscription watch_signal(int signo, Task callback) override {
      return loop_.watch_signal(signo, std::move(callback));
    }
    void defer_delete(std::unique_ptr<Deferred> object) override {
      loop_.defer_delete(std::move(object));
    }
    void run() override { loop_.run(); }
    void stop() override { loop_.stop(); }

   private:
    FakeLoop& loop_;
    SlowClock clock_;
  };

  void make_slow() {
    sampler_.emplace(
        slow_loop_, ProgressOptions{}, [this] { return in_flight_; },
        [this](const Observation& observation) {
          threads_.push_back(std::this_thread::get_id());
          seen_.push_back(observation);
        });
    sampler_->set_suspicious(true);
    sampler_->start(1, agent_.pid());
    loop_.run_for(1s);  // the first shows that readings are slow
    EXPECT_EQ(of<ProgressSample>().size(), 1u);
    seen_.clear();
  }

  SlowLoop slow_loop_{loop_};
  std::vector<std::thread::id> threads_;
};

TEST_F(SlowReadings, AreTakenElsewhereAndComeBackThroughTheLoop) {
  make_slow();
  loop_.run_for(1s);  // asks for one
  ASSERT_TRUE(eventually([&] {
    loop_.run_ready();
    return seen_.size() == 3;
  }));
  EXPECT_TRUE(of<ProgressSample>().at(0).process_seen);
  EXPECT_THAT(threads_, testing::Each(std::this_thread::get_id()));
}

TEST_F(SlowReadings, OfAnAgentThatIsGoneAreDropped) {
  make_slow();
  loop_.run_for(1s);
  sampler_->start(2, agent_.pid());
  seen_.clear();  // it may have come back before that
  ASSERT_TRUE(eventually([&] {
    loop_.run_for(1s);
    return !seen_.empty();
  }));
  for (const ProgressSample& sample : of<ProgressSample>()) EXPECT_EQ(sample.generation, 2u);
}

TEST_F(SlowReadings, MayBeUnderWayWhenTheSamplerDies) {
  make_slow();
  loop_.run_for(1s);
  sampler_.reset();
  seen_.clear();  // it may have come back before that
  loop_.run_for(1min);
  EXPECT_THAT(seen_, IsEmpty());
}

}  // namespace
}  // namespace remora
