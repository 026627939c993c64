// An agent that exists only in the test: starts, stops and dies as told, in virtual time. Breaking
// the Orchestrator's contract (two instances at once) is noted in violations.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sidecar/heal/orchestrator.h"
#include "sidecar/net/loop.h"

namespace remora {

class FakeOrchestrator final : public Orchestrator {
 public:
  explicit FakeOrchestrator(Loop& loop) : loop_(loop) {}

  // How the next starts and stops go.
  Duration start_delay = std::chrono::milliseconds(5);
  Duration stop_delay = std::chrono::milliseconds(20);
  std::optional<Error> start_error;
  bool ignores_sigterm = false;
  std::string log = "last words\n";

  // What happened.
  std::vector<MonotonicTime> starts;
  std::vector<Duration> stops;  // the grace of each call
  std::vector<std::string> violations;

  void set_events(OrchestratorEvents& events) override { events_ = &events; }

  void start_agent() override {
    if (starting_ || running_) violations.push_back("started while an instance is there");
    starting_ = true;
    starts.push_back(loop_.now());
    start_timer_ = loop_.add_timer(start_delay, [this] { finish_start(); });
  }

  void stop_agent(Duration grace) override {
    stops.push_back(grace);
    if (!starting_ && !running_) {
      violations.push_back("stopped while no instance is there");
      return;
    }
    const Duration delay = ignores_sigterm ? grace : std::min(grace, stop_delay);
    const MonotonicTime due = loop_.now() + delay;
    if (stop_due_ && *stop_due_ <= due) return;
    stop_due_ = due;
    const bool killed = ignores_sigterm || grace < stop_delay;
    stop_timer_ = loop_.add_timer(delay, [this, killed] {
      if (starting_) finish_start();
      if (running_) finish({killed ? 137 : 143, killed ? 9 : 15, false});
    });
  }

  std::string log_tail(uint64_t generation) const override {
    return generation == generation_ ? log : "";
  }

  // The agent ends by itself. True when there was one.
  bool exit_agent(int exit_code, int signal = 0, bool oom_killed = false) {
    if (!running_) return false;
    finish({exit_code, signal, oom_killed});
    return true;
  }

  bool running() const { return running_; }
  bool exists() const { return running_ || starting_; }
  uint64_t generation() const { return generation_; }

 private:
  void finish_start() {
    starting_ = false;
    start_timer_.cancel();
    if (start_error) {
      stop_timer_.cancel();
      stop_due_.reset();
      events_->on_agent_start_failed(*start_error);
      return;
    }
    running_ = true;
    ++generation_;
    events_->on_agent_started({generation_, static_cast<pid_t>(1000 + generation_)});
  }
  void finish(const AgentExit& exit) {
    running_ = false;
    stop_timer_.cancel();
    stop_due_.reset();
    events_->on_agent_exited(generation_, exit);
  }

  Loop& loop_;
  OrchestratorEvents* events_ = nullptr;
  bool starting_ = false;
  bool running_ = false;
  uint64_t generation_ = 0;
  std::optional<MonotonicTime> stop_due_;
  Subscription start_timer_;
  Subscription stop_timer_;
};

}  // namespace remora
