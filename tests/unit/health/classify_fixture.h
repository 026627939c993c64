// An agent's life as observations with virtual time: what the classifier's tests are told in.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sidecar/health/classify.h"

namespace remora {

using namespace std::chrono_literals;

class ClassifierTest : public testing::Test {
 protected:
  static constexpr Duration kWindow = 30s;
  static constexpr Duration kInterval = 1s;
  static constexpr uint64_t kGeneration = 7;

  ClassifierTest() : classifier_({.hang_window = kWindow}) { start(); }

  std::optional<Fault> tell(decltype(Observation::what) what) {
    return classifier_.observe({.at = now_, .what = std::move(what)});
  }
  void start(uint64_t generation = kGeneration) {
    agent_ = {};
    agent_.generation = generation;
    agent_.process_seen = true;
    agent_.cpus_available = 2;
    EXPECT_FALSE(tell(AgentStarted{.generation = generation, .pid = 100}));
  }

  // A second passes in which the agent does what `each` adds to its counters; then it is sampled.
  template <typename Each>
  std::optional<Fault> sample(Each each) {
    now_ += kInterval;
    if (agent_.in_flight > 0) agent_.oldest_age += kInterval;
    each(agent_);
    return tell(agent_);
  }
  // Goes on for so long, or up to the first fault.
  template <typename Each>
  std::optional<Fault> live(Duration span, Each each) {
    for (const MonotonicTime end = now_ + span; now_ < end;) {
      if (std::optional<Fault> fault = sample(each)) return fault;
    }
    return std::nullopt;
  }
  std::optional<Fault> live(Duration span) {
    return live(span, [](ProgressSample&) {});
  }

  // A request goes into the agent now.
  void request() {
    agent_.in_flight = 1;
    agent_.oldest_age = {};
    agent_.oldest_request = "POST /invoke";
    ++agent_.requests_started;
  }
  void answer() {
    agent_.in_flight = 0;
    agent_.oldest_age = {};
    agent_.bytes_from_agent += 100;
  }
  // The nth attempt in a row fails, now.
  std::optional<Fault> fail(ProbeKind kind, uint32_t consecutive) {
    return tell(ProbeResult{.probe = kind,
                            .outcome = ProbeOutcome::kFailure,
                            .reason = "GET /healthz: no answer within 1.0 s",
                            .timed_out = true,
                            .consecutive = consecutive,
                            .healthy = consecutive < 3});
  }
  std::optional<Fault> succeed(ProbeKind kind) {
    return tell(ProbeResult{.probe = kind, .reason = {}});
  }
  // Fails past its threshold of 3, one attempt every two seconds, with samples between.
  template <typename Each>
  std::optional<Fault> fail_past_threshold(ProbeKind kind, Each each) {
    for (uint32_t n = 1; n <= 3; ++n) {
      if (std::optional<Fault> fault = fail(kind, n)) return fault;
      if (std::optional<Fault> fault = live(2s, each)) return fault;
    }
    return std::nullopt;
  }

  void call(OutboundCall::State state, Duration pending_for) {
    agent_.outbound = {{.peer = "10.0.0.7:5432", .state = state, .pending_for = pending_for}};
  }
  static void await_for_one_interval(ProgressSample& agent) {
    for (OutboundCall& pending : agent.outbound) pending.pending_for += kInterval;
  }
  static void use_cpu(ProgressSample& agent, Duration cpu) {
    agent.cpu_ns += static_cast<uint64_t>(cpu.count());
  }

  MonotonicTime now_{1000s};
  ProgressSample agent_;
  Classifier classifier_;
};

inline std::string evidence_of(const Fault& fault) {
  std::string all;
  for (const EvidenceItem& item : fault.evidence) all += item.kind + ": " + item.text + "\n";
  return all;
}

MATCHER_P(IsFault, kind, std::string(fault_kind_name(kind))) {
  if (!arg) return false;
  *result_listener << fault_kind_name(arg->kind) << ": " << arg->summary;
  return arg->kind == kind;
}
MATCHER(IsNoFault, "no fault") {
  if (arg) *result_listener << fault_kind_name(arg->kind) << ": " << arg->summary;
  return !arg;
}

}  // namespace remora
