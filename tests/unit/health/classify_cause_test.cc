// What failing probes, pending calls and a shortage of CPU mean together.
#include "sidecar/health/classify.h"
#include "tests/unit/health/classify_fixture.h"

namespace remora {
namespace {

using enum FaultKind;
using ::testing::HasSubstr;
using ::testing::StartsWith;

void nothing(ProgressSample&) {}

// --- probes ---

TEST_F(ClassifierTest, LivenessPastItsThresholdIsAHang) {
  live(20s);
  const MonotonicTime began = now_;
  EXPECT_THAT(fail(ProbeKind::kLiveness, 1), IsNoFault());
  EXPECT_THAT(live(2s), IsNoFault());
  EXPECT_THAT(fail(ProbeKind::kLiveness, 2), IsNoFault());
  EXPECT_THAT(live(2s), IsNoFault());
  EXPECT_THAT(fail(ProbeKind::kLiveness, 3), IsNoFault()) << "nobody has looked why yet";
  const auto fault = sample(nothing);
  ASSERT_THAT(fault, IsFault(kHang));
  EXPECT_THAT(fault->summary, HasSubstr("liveness probe failed 3 times in a row"));
  EXPECT_EQ(fault->began_at, began);
  EXPECT_THAT(evidence_of(*fault), StartsWith("probe: GET /healthz: no answer within 1.0 s\n"));
  EXPECT_THAT(fail(ProbeKind::kLiveness, 4), IsNoFault()) << "told already";
}

TEST_F(ClassifierTest, WithoutSamplesLivenessSpeaksAlone) {
  EXPECT_THAT(fail(ProbeKind::kLiveness, 2), IsNoFault());
  EXPECT_THAT(fail(ProbeKind::kLiveness, 3), IsFault(kHang));
}

TEST_F(ClassifierTest, WithoutAReadableProcessLivenessSpeaksAlone) {
  agent_.process_seen = false;
  live(10s);
  EXPECT_THAT(fail(ProbeKind::kLiveness, 3), IsFault(kHang));
}

TEST_F(ClassifierTest, LivenessThatRecoversClearsTheHang) {
  live(20s);
  ASSERT_THAT(fail_past_threshold(ProbeKind::kLiveness, nothing), IsFault(kHang));
  live(5s);
  EXPECT_TRUE(classifier_.active(kHang)) << "it fails still";
  succeed(ProbeKind::kLiveness);
  EXPECT_THAT(sample(nothing), IsNoFault());
  EXPECT_FALSE(classifier_.active(kHang));
}

TEST_F(ClassifierTest, StartupPastItsThresholdIsAHangToldOnce) {
  EXPECT_THAT(fail(ProbeKind::kStartup, 2), IsNoFault());
  const auto fault = fail(ProbeKind::kStartup, 3);
  ASSERT_THAT(fault, IsFault(kHang));
  EXPECT_THAT(fault->summary, HasSubstr("startup probe"));
  for (uint32_t n = 4; n < 10; ++n) {
    EXPECT_THAT(live(2s), IsNoFault());
    EXPECT_THAT(fail(ProbeKind::kStartup, n), IsNoFault()) << "told already";
  }
}

TEST_F(ClassifierTest, AnAgentThatStartsSlowlyIsNotSpared) {
  // Busy or not: the startup probe's own threshold is the time that it was given.
  live(10s, [](ProgressSample& a) { use_cpu(a, 500ms); });
  EXPECT_THAT(fail(ProbeKind::kStartup, 3), IsFault(kHang));
}

TEST_F(ClassifierTest, ReadinessIsNeverAFault) {
  for (uint32_t n = 1; n < 100; ++n) {
    ASSERT_THAT(fail(ProbeKind::kReadiness, n), IsNoFault());
    ASSERT_THAT(live(1s), IsNoFault());
  }
}

TEST_F(ClassifierTest, ABusyAgentWithFailingLivenessIsLeftAloneForTheWindow) {
  const auto work = [](ProgressSample& a) { use_cpu(a, 900ms); };
  live(20s, work);
  const MonotonicTime began = now_;
  ASSERT_THAT(fail_past_threshold(ProbeKind::kLiveness, work), IsNoFault());
  const auto fault = live(kWindow, work);
  ASSERT_THAT(fault, IsFault(kHang));
  EXPECT_EQ(fault->detected_at - began, kWindow);
}

TEST_F(ClassifierTest, ProbesThatAHungAgentParksAreNoWork) {
  live(20s);
  const auto fault = fail_past_threshold(ProbeKind::kLiveness, [](ProgressSample& a) {
    use_cpu(a, 15ms);
    a.io_bytes += 500;
  });
  EXPECT_THAT(fault, IsFault(kHang));
}

// --- dependency ---

TEST_F(ClassifierTest, APendingCallIsADependencyAndNeverAHang) {
  live(5s);
  request();
  call(OutboundCall::State::kAwaiting, 0s);
  EXPECT_THAT(live(kWindow - kInterval, await_for_one_interval), IsNoFault());
  EXPECT_EQ(classifier_.activity(), "waiting");
  const auto fault = live(2s, await_for_one_interval);
  ASSERT_THAT(fault, IsFault(kDependency));
  EXPECT_THAT(fault->summary, HasSubstr("10.0.0.7:5432"));
  EXPECT_THAT(evidence_of(*fault), HasSubstr("outbound: 10.0.0.7:5432: awaiting an answer for 30"));
  EXPECT_THAT(live(1h, await_for_one_interval), IsNoFault()) << "told once, and no restart";
}

TEST_F(ClassifierTest, AnAnsweredCallClearsTheDependencyAndTheWindowBeginsThen) {
  live(5s);
  request();
  call(OutboundCall::State::kConnecting, 0s);
  ASSERT_THAT(live(kWindow + 2s, await_for_one_interval), IsFault(kDependency));
  agent_.outbound.clear();
  EXPECT_THAT(live(kWindow - kInterval), IsNoFault());
  EXPECT_FALSE(classifier_.active(kDependency));
  EXPECT_THAT(live(2s), IsFault(kHang)) << "it has the answer and still does nothing";
}

TEST_F(ClassifierTest, ShortCallsOneAfterAnotherAreNoFault) {
  live(5s);
  request();
  call(OutboundCall::State::kAwaiting, 500ms);
  EXPECT_THAT(live(10min), IsNoFault());
}

TEST_F(ClassifierTest, AStreamThatComesInExplainsAndASilentOneDoesNot) {
  live(5s);
  request();
  call(OutboundCall::State::kStreaming, 100ms);
  EXPECT_THAT(live(10min), IsNoFault());
  call(OutboundCall::State::kStreaming, kWindow);
  EXPECT_THAT(live(kWindow + 1s), IsFault(kHang));
}

TEST_F(ClassifierTest, LivenessThatFailsForAPendingCallIsADependencyAfterTheWindow) {
  live(20s);
  call(OutboundCall::State::kAwaiting, 0s);
  ASSERT_THAT(fail_past_threshold(ProbeKind::kLiveness, await_for_one_interval), IsNoFault());
  EXPECT_THAT(live(kWindow, await_for_one_interval), IsFault(kDependency));
  EXPECT_FALSE(classifier_.active(kHang));
  EXPECT_THAT(live(1h, await_for_one_interval), IsNoFault());
}

// Calls are looked at only once something is suspected: while nothing was, they are unknown.
TEST_F(ClassifierTest, ACallFirstSeenAfterLivenessFailedStillExplains) {
  live(20s);
  EXPECT_THAT(fail(ProbeKind::kLiveness, 3), IsNoFault());
  call(OutboundCall::State::kAwaiting, 15s);
  EXPECT_THAT(live(kWindow - kInterval, await_for_one_interval), IsNoFault());
  EXPECT_THAT(live(2s, await_for_one_interval), IsFault(kDependency));
}

// Else all replicas would be restarted at the moment when what they share is back.
TEST_F(ClassifierTest, WhatFailedForAPendingCallSaysNothingOnceThatIsAnswered) {
  live(20s);
  call(OutboundCall::State::kAwaiting, 0s);
  ASSERT_THAT(fail_past_threshold(ProbeKind::kLiveness, await_for_one_interval), IsNoFault());
  ASSERT_THAT(live(kWindow, await_for_one_interval), IsFault(kDependency));
  agent_.outbound.clear();
  EXPECT_THAT(live(kWindow), IsNoFault()) << "nobody has asked since";
  EXPECT_FALSE(classifier_.active(kDependency));
  EXPECT_THAT(fail(ProbeKind::kLiveness, 4), IsNoFault());
  EXPECT_THAT(fail(ProbeKind::kLiveness, 5), IsNoFault());
  EXPECT_THAT(fail(ProbeKind::kLiveness, 6), IsFault(kHang)) << "it was not that";
}

TEST_F(ClassifierTest, WithSamplesGoneSilentLivenessSpeaksAfterTheWindow) {
  live(20s);
  EXPECT_THAT(fail(ProbeKind::kLiveness, 3), IsNoFault());
  now_ += kWindow;
  EXPECT_THAT(fail(ProbeKind::kLiveness, 4), IsFault(kHang));
}

// --- overload ---

class Shortage : public ClassifierTest {
 protected:
  static void throttle(ProgressSample& agent) {
    use_cpu(agent, 10ms);
    agent.throttled += 500ms;
  }
  static void wait_for_cpu(ProgressSample& agent) { agent.runqueue_wait_ns += 300'000'000; }
  std::optional<Fault> reject(uint64_t total) {
    return tell(OverloadSample{.rejected = total, .in_flight = 64, .in_flight_max = 64});
  }
};

TEST_F(Shortage, AThrottledAgentThatDoesNotAnswerIsOverloaded) {
  live(5s);
  request();
  EXPECT_THAT(live(kWindow - kInterval, throttle), IsNoFault());
  EXPECT_EQ(classifier_.activity(), "starved");
  const auto fault = live(2s, throttle);
  ASSERT_THAT(fault, IsFault(kOverload));
  EXPECT_THAT(evidence_of(*fault), HasSubstr("cpu: in the last 30.0 s its quota held it back for"));
  EXPECT_THAT(live(1h, throttle), IsNoFault()) << "told once, and no restart";
}

TEST_F(Shortage, WaitingForAFreeCpuIsTheSame) {
  live(5s);
  request();
  EXPECT_THAT(live(kWindow, wait_for_cpu), IsFault(kOverload));
}

TEST_F(Shortage, ClearsWhenItHasCpuAgain) {
  live(5s);
  request();
  ASSERT_THAT(live(kWindow, throttle), IsFault(kOverload));
  answer();
  live(15s);
  EXPECT_FALSE(classifier_.active(kOverload));
}

TEST_F(Shortage, StarvedWithFailingLivenessIsOverloadAfterTheWindow) {
  live(20s, throttle);
  ASSERT_THAT(fail_past_threshold(ProbeKind::kLiveness, throttle), IsNoFault());
  EXPECT_THAT(live(kWindow, throttle), IsFault(kOverload));
  EXPECT_FALSE(classifier_.active(kHang));
}

TEST_F(Shortage, RequestsTurnedAwayAreOverload) {
  EXPECT_THAT(reject(40), IsNoFault()) << "from before this was watched";
  EXPECT_THAT(reject(40), IsNoFault());
  now_ += 1s;
  const auto fault = reject(45);
  ASSERT_THAT(fault, IsFault(kOverload));
  EXPECT_THAT(fault->summary, HasSubstr("5 requests were turned away at the limit of 64"));
  EXPECT_THAT(reject(50), IsNoFault()) << "told already";
}

TEST_F(Shortage, OverloadIsOverOnceNothingHasBeenTurnedAwayForAWhile) {
  reject(0);
  ASSERT_THAT(reject(1), IsFault(kOverload));
  now_ += 9s;
  reject(1);
  EXPECT_TRUE(classifier_.active(kOverload));
  now_ += 1s;
  reject(1);
  EXPECT_FALSE(classifier_.active(kOverload));
  EXPECT_THAT(reject(2), IsFault(kOverload));
}

TEST_F(Shortage, CpuThatIsBackDoesNotEndAnOverloadByRequests) {
  live(5s);
  request();
  reject(0);
  ASSERT_THAT(live(kWindow, throttle), IsFault(kOverload));
  uint64_t rejected = 0;
  const auto fault = live(30s, [&](ProgressSample& a) {
    use_cpu(a, 100ms);
    EXPECT_THAT(reject(++rejected), IsNoFault()) << "it never was over";
  });
  EXPECT_THAT(fault, IsNoFault());
  EXPECT_TRUE(classifier_.active(kOverload));
}

TEST_F(Shortage, SaysWhenTheCpuIsUsedUp) {
  reject(0);
  live(10s, [](ProgressSample& a) { use_cpu(a, 1990ms); });
  const auto fault = reject(1);
  ASSERT_THAT(fault, IsFault(kOverload));
  EXPECT_THAT(evidence_of(*fault), HasSubstr("cpu: the agent uses all the CPU that it may use"));
}

// --- the window is of the policy, whatever it is ---

class Windows : public ClassifierTest, public testing::WithParamInterface<Duration> {};

TEST_P(Windows, AreKeptToWithinTwoSamples) {
  const Duration window = GetParam();
  classifier_.set_policy({.hang_window = window});
  live(window + 5s);
  request();
  const MonotonicTime began = now_;
  const auto fault = live(3 * window);
  ASSERT_THAT(fault, IsFault(kHang));
  EXPECT_GE(fault->detected_at - began, window);
  EXPECT_LE(fault->detected_at - began, window + 2 * kInterval);
}
INSTANTIATE_TEST_SUITE_P(All, Windows, testing::Values(4s, 30s, 5min, 1h));

}  // namespace
}  // namespace remora
