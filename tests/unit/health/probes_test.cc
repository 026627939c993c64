// The prober's schedule, thresholds and gating, in virtual time and with attempts made up here.
#include "sidecar/health/probes.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/fakes/fake_loop.h"

namespace remora {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// An exec probe's first word says which probe an attempt is of.
ProbeSpec spec_of(const char* name, Duration period = 10s) {
  return {.action = ExecProbe{.command = {name}, .working_dir = {}, .environment = {}},
          .period = period};
}

class ProberTest : public testing::Test {
 protected:
  // Answers each attempt after `takes`, well or not.
  class FakeAttempt final : public ProbeAttempt {
   public:
    FakeAttempt(ProberTest& test, ProbeDone done) : test_(test), done_(std::move(done)) {
      ++test_.under_way_;
      timer_ = test_.loop_.add_timer(test_.takes_, [this] {
        ProbeDone answer = std::move(done_);
        answer({.ok = test_.well_, .timed_out = false, .reason = test_.well_ ? "" : "ill"});
      });
    }
    ~FakeAttempt() override { --test_.under_way_; }
    FakeAttempt(const FakeAttempt&) = delete;
    FakeAttempt& operator=(const FakeAttempt&) = delete;

   private:
    ProberTest& test_;
    ProbeDone done_;
    Subscription timer_;
  };

  void make(ProbeSet probes) {
    prober_.emplace(
        loop_, std::move(probes),
        [this](const ProbeResult& result) {
          results_.push_back(result);
          if (on_result_) on_result_(result);
        },
        [this](Loop&, const ProbeAction& action, Duration timeout, ProbeDone done) {
          asked_.push_back(std::get<ExecProbe>(action).command.front() + "@" +
                           std::to_string(to_ms(loop_.now() - began_)));
          last_timeout_ = timeout;
          return std::make_unique<FakeAttempt>(*this, std::move(done));
        });
    began_ = loop_.now();
  }
  void start(ProbeSet probes) {
    make(std::move(probes));
    prober_->start();
    EXPECT_THAT(asked_, IsEmpty()) << "never from inside the call";
  }

  FakeLoop loop_;
  MonotonicTime began_;
  bool well_ = true;
  Duration takes_ = 10ms;
  int under_way_ = 0;
  Duration last_timeout_{};
  std::vector<std::string> asked_;  // "name@ms since start"
  std::vector<ProbeResult> results_;
  std::move_only_function<void(const ProbeResult&)> on_result_;
  std::optional<Prober> prober_;
};

TEST_F(ProberTest, WithoutProbesTheAgentIsReadyAtOnce) {
  make({});
  EXPECT_FALSE(prober_->ready());
  prober_->start();
  EXPECT_TRUE(prober_->started());
  EXPECT_TRUE(prober_->ready());
  EXPECT_TRUE(prober_->live());
  prober_->stop();
  EXPECT_FALSE(prober_->running());
  EXPECT_FALSE(prober_->ready());
}

TEST_F(ProberTest, AsksOnceAPeriodAfterItsDelay) {
  ProbeSpec spec = spec_of("live", 2s);
  spec.initial_delay = 3s;
  spec.timeout = 700ms;
  start({.startup = {}, .liveness = spec, .readiness = {}});
  loop_.run_for(8s);
  EXPECT_THAT(asked_, ElementsAre("live@3000", "live@5000", "live@7000"));
  EXPECT_EQ(last_timeout_, 700ms);
}

TEST_F(ProberTest, ASlowAttemptDelaysTheNextAndNeverOverlapsIt) {
  takes_ = 2500ms;
  start({.startup = {}, .liveness = spec_of("live", 1s), .readiness = {}});
  for (int i = 0; i < 100; ++i) {
    loop_.run_for(100ms);
    EXPECT_LE(under_way_, 1);
  }
  EXPECT_THAT(asked_, ElementsAre("live@0", "live@2500", "live@5000", "live@7500", "live@10000"));
  EXPECT_EQ(results_[0].elapsed, 2500ms);
}

TEST_F(ProberTest, AliveUntilProvenOtherwiseAndReadyOnlyOnceItSaysSo) {
  start({.startup = {}, .liveness = spec_of("live"), .readiness = spec_of("ready")});
  EXPECT_TRUE(prober_->live());
  EXPECT_FALSE(prober_->ready());
  loop_.run_for(100ms);
  EXPECT_TRUE(prober_->ready());
}

TEST_F(ProberTest, ChangesItsMindAtTheThresholds) {
  ProbeSpec spec = spec_of("ready", 1s);
  spec.failure_threshold = 3;
  spec.success_threshold = 2;
  start({.startup = {}, .liveness = {}, .readiness = spec});
  const auto next = [&](bool well) {
    well_ = well;
    loop_.run_for(1s);
    EXPECT_EQ(results_.back().healthy, prober_->ready());
    EXPECT_EQ(results_.back().failure_threshold, 3u);
    return std::pair(results_.back().consecutive, prober_->ready());
  };
  EXPECT_EQ(next(true), std::pair(1u, false));
  EXPECT_EQ(next(true), std::pair(2u, true));
  EXPECT_EQ(next(false), std::pair(1u, true));
  EXPECT_EQ(next(false), std::pair(2u, true));
  EXPECT_EQ(next(true), std::pair(1u, true)) << "in a row";
  EXPECT_EQ(next(false), std::pair(1u, true));
  EXPECT_EQ(next(false), std::pair(2u, true));
  EXPECT_EQ(next(false), std::pair(3u, false));
  EXPECT_EQ(next(false), std::pair(4u, false));
  EXPECT_EQ(next(true), std::pair(1u, false));
  EXPECT_EQ(next(true), std::pair(2u, true));
}

TEST_F(ProberTest, ResultsSayWhatHappened) {
  well_ = false;
  start({.startup = {}, .liveness = spec_of("live"), .readiness = {}});
  loop_.run_for(1s);
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].probe, ProbeKind::kLiveness);
  EXPECT_EQ(results_[0].outcome, ProbeOutcome::kFailure);
  EXPECT_EQ(results_[0].reason, "ill");
  EXPECT_EQ(results_[0].elapsed, 10ms);
  EXPECT_TRUE(results_[0].healthy) << "one failure of three";
}

TEST_F(ProberTest, StartupHoldsTheOthersBackUntilItHasSucceededOnce) {
  well_ = false;
  ProbeSpec ready = spec_of("ready");
  ready.initial_delay = 4s;
  start({.startup = spec_of("startup", 1s), .liveness = spec_of("live"), .readiness = ready});
  loop_.run_for(2500ms);
  EXPECT_THAT(asked_, ElementsAre("startup@0", "startup@1000", "startup@2000"));
  EXPECT_FALSE(prober_->started());
  EXPECT_FALSE(prober_->ready());
  EXPECT_TRUE(prober_->live());
  well_ = true;
  asked_.clear();
  loop_.run_for(6s);
  // Delays count from the start of the agent.
  EXPECT_THAT(asked_, ElementsAre("startup@3000", "live@3010", "ready@4000"));
  EXPECT_TRUE(prober_->started());
  EXPECT_TRUE(prober_->ready());
}

TEST_F(ProberTest, StopAbandonsWhatIsUnderWay) {
  takes_ = 1s;
  start({.startup = {}, .liveness = spec_of("live"), .readiness = spec_of("ready")});
  loop_.run_for(500ms);
  EXPECT_EQ(under_way_, 2);
  prober_->stop();
  EXPECT_EQ(under_way_, 0);
  loop_.run_for(1min);
  EXPECT_THAT(results_, IsEmpty());
  EXPECT_EQ(asked_.size(), 2u);
}

TEST_F(ProberTest, EachStartBeginsAfresh) {
  ProbeSpec live = spec_of("live", 1s);
  start({.startup = {}, .liveness = live, .readiness = spec_of("ready", 1s)});
  loop_.run_for(100ms);
  well_ = false;
  loop_.run_for(3s);
  EXPECT_FALSE(prober_->live());
  prober_->stop();
  EXPECT_TRUE(prober_->live());
  prober_->start();
  EXPECT_TRUE(prober_->live());
  EXPECT_FALSE(prober_->ready());
  loop_.run_for(500ms);
  EXPECT_EQ(results_.back().consecutive, 1u);
}

TEST_F(ProberTest, TheSinkMayStopIt) {
  start({.startup = {}, .liveness = spec_of("live", 1s), .readiness = spec_of("ready", 1s)});
  on_result_ = [&](const ProbeResult&) { prober_->stop(); };
  loop_.run_for(10s);
  EXPECT_EQ(results_.size(), 1u);
  EXPECT_EQ(under_way_, 0);
}

TEST_F(ProberTest, TheSinkMayStartItAgain) {
  start({.startup = {}, .liveness = spec_of("live", 1s), .readiness = {}});
  on_result_ = [&](const ProbeResult&) { prober_->start(); };
  loop_.run_for(95ms);
  EXPECT_EQ(results_.size(), 9u) << "each answer begins another start";
}

TEST_F(ProberTest, TheSinkMayDestroyIt) {
  for (const bool startup : {false, true}) {
    results_.clear();
    ProbeSet probes{.startup = {}, .liveness = spec_of("live", 1s), .readiness = {}};
    if (startup) probes.startup = spec_of("startup", 1s);
    make(std::move(probes));
    prober_->start();
    on_result_ = [&](const ProbeResult&) { prober_.reset(); };
    loop_.run_for(10s);
    EXPECT_EQ(results_.size(), 1u);
    EXPECT_EQ(under_way_, 0);
  }
}

TEST_F(ProberTest, OtherProbesBeginAfreshWithoutAnotherStartup) {
  start({.startup = spec_of("startup"), .liveness = spec_of("live"), .readiness = {}});
  loop_.run_for(1s);
  asked_.clear();
  prober_->set_probes(
      {.startup = spec_of("new startup"), .liveness = {}, .readiness = spec_of("new ready")});
  EXPECT_TRUE(prober_->started());
  EXPECT_FALSE(prober_->ready());
  loop_.run_for(1s);
  EXPECT_THAT(asked_, ElementsAre("new ready@1000"));
  EXPECT_TRUE(prober_->ready());
}

TEST_F(ProberTest, OtherProbesDuringStartupStartAgain) {
  well_ = false;
  start({.startup = spec_of("startup"), .liveness = {}, .readiness = {}});
  loop_.run_for(1s);
  well_ = true;
  prober_->set_probes({.startup = spec_of("other"), .liveness = {}, .readiness = {}});
  EXPECT_FALSE(prober_->started());
  loop_.run_for(1s);
  EXPECT_THAT(asked_, ElementsAre("startup@0", "other@1000"));
  EXPECT_TRUE(prober_->ready());
}

TEST_F(ProberTest, OtherProbesWhileNothingRunsWaitForTheStart) {
  make({});
  prober_->set_probes({.startup = {}, .liveness = spec_of("live"), .readiness = {}});
  loop_.run_for(1min);
  EXPECT_THAT(asked_, IsEmpty());
  prober_->start();
  loop_.run_for(1s);
  EXPECT_EQ(asked_.size(), 1u);
}

}  // namespace
}  // namespace remora
