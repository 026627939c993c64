// A supervisor among fakes, and the shorthand that its tests speak.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sidecar/base/log.h"
#include "sidecar/heal/supervisor.h"
#include "tests/fakes/fake_heal_seams.h"
#include "tests/fakes/fake_loop.h"
#include "tests/fakes/fake_orchestrator.h"

namespace remora {

using namespace std::chrono_literals;

class SupervisorTest : public ::testing::Test {
 protected:
  SupervisorTest() { set_log_level(LogLevel::kOff); }
  SupervisorTest(const SupervisorTest&) = delete;
  SupervisorTest& operator=(const SupervisorTest&) = delete;
  ~SupervisorTest() override {
    EXPECT_THAT(orchestrator_.violations, ::testing::IsEmpty());
    set_log_level(LogLevel::kInfo);
  }

  void make(bool with_state = true) {
    SupervisorHooks hooks;
    hooks.on_incident = [this](const Incident& incident) { reported_.push_back(incident); };
    hooks.in_flight_requests = [] { return std::vector<std::string>{"POST /invoke, 2 s"}; };
    hooks.on_agent_started = [this](const AgentInstance&) { ++probing_started_; };
    hooks.on_agent_stopped = [this] { ++probing_stopped_; };
    hooks.final_snapshot = [this](Task done) {
      ++snapshots_;
      if (!snapshot_stuck_) loop_.post(std::move(done));
    };
    hooks.on_finished = [this](int code) {
      EXPECT_FALSE(exit_code_) << "finished twice";
      exit_code_ = code;
    };
    supervisor_ = std::make_unique<Supervisor>(
        SupervisorSeams{loop_, orchestrator_, with_state ? &keeper_ : nullptr, log_, alerter_,
                        gate_, drain_},
        options_, std::move(hooks));
  }
  void start() {
    if (!supervisor_) make();
    supervisor_->start();
    loop_.run_for(100ms);
  }
  void serve() {
    start();
    supervisor_->on_ready();
    loop_.run_for(10ms);
    ASSERT_EQ(phase(), Phase::kServing);
    ASSERT_TRUE(gate_.up);
  }
  // Time passes; an agent that comes up becomes ready.
  void run_and_get_ready(Duration span) {
    const MonotonicTime end = loop_.now() + span;
    while (loop_.now() < end && !exit_code_) {
      loop_.run_for(10ms);
      if (phase() == Phase::kWarmingUp) supervisor_->on_ready();
    }
  }
  void run_to_end(Duration span = 10min) {
    EXPECT_TRUE(loop_.run_until([this] { return exit_code_.has_value(); }, span));
  }
  void see_deadlock() {
    const DeadlockEdge a{11, "worker", "mutex", 0x70, "", 12, "io", 5};
    const DeadlockEdge b{12, "io", "mutex", 0x80, "", 11, "worker", 6};
    DeadlockSample sample;
    sample.generation = orchestrator_.generation();
    sample.pid = supervisor_->instance().pid;
    sample.cycle = {a, b};
    sample.threads = 2;
    supervisor_->observe({loop_.now(), sample});
    loop_.run_for(1s);
    if (phase() == Phase::kServing || phase() == Phase::kWarmingUp) {
      supervisor_->observe({loop_.now(), sample});
    }
  }
  void see_overload(uint64_t rejected) {
    supervisor_->observe({loop_.now(), OverloadSample{rejected, 10, 10}});
  }
  Phase phase() const { return supervisor_->phase(); }
  const Incident& last() const { return reported_.back(); }
  std::vector<HealAction> actions(const Incident& incident) const {
    std::vector<HealAction> list;
    for (const IncidentStep& step : incident.steps) list.push_back(step.action);
    return list;
  }

  FakeLoop loop_;
  FakeOrchestrator orchestrator_{loop_};
  FakeStateKeeper keeper_{loop_};
  FakeIncidentLog log_{loop_};
  FakeAlerter alerter_{loop_};
  FakeGate gate_;
  FakeDrain drain_{loop_};
  SupervisorOptions options_;
  std::unique_ptr<Supervisor> supervisor_;
  std::vector<Incident> reported_;
  int probing_started_ = 0;
  int probing_stopped_ = 0;
  int snapshots_ = 0;
  bool snapshot_stuck_ = false;
  std::optional<int> exit_code_;
};

}  // namespace remora
