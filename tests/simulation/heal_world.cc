#include "tests/simulation/heal_world.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include <fmt/format.h>

namespace remora::simulation {
namespace {

using namespace std::chrono_literals;

constexpr Duration life = 5min;
constexpr Duration sample_interval = 1s;
// After the world has calmed down: longer than the slowest policy needs for one good start.
constexpr Duration calm_time = 10min;

Error error_of(ErrorCode code, const char* message) {
  return {code, ErrorSource::kStorage, false, message};
}

}  // namespace

HealWorld::HealWorld(uint64_t seed, bool trace)
    : seed_(seed), trace_(trace), random_(seed), loop_(seed) {
  choose_policy();
  choose_climate();
  supervisor_ = std::make_unique<Supervisor>(
      SupervisorSeams{loop_, orchestrator_, climate_.with_state ? &keeper_ : nullptr, log_,
                      alerter_, gate_, drain_},
      options_, hooks());
  checks_ = std::make_unique<HealChecks>(*supervisor_, orchestrator_, log_, gate_, options_.policy);
}

HealWorld::~HealWorld() = default;

Duration HealWorld::between(Duration low, Duration high) {
  return Duration(std::uniform_int_distribution<int64_t>(low.count(), high.count())(random_));
}

void HealWorld::choose_policy() {
  HealingPolicy& policy = options_.policy;
  policy.backoff_base = pick<Duration>({0s, 0s, 200ms, 3s});
  policy.backoff_step = pick<Duration>({1ms, 100ms, 1s, 5s});
  policy.backoff_max = pick<Duration>({1s, 10s, 60s});
  policy.restarts_max = pick<uint32_t>({1, 2, 5, 10, 30});
  policy.restarts_window = pick<Duration>({5s, 60s, 10min});
  policy.step_timeout = pick<Duration>({2s, 10s, 60s});
  policy.stable_after = pick<Duration>({5s, 60s, 10min});
  if (likely(0.3)) {
    for (Ladder& ladder : policy.ladders) {
      ladder.clear();
      for (size_t steps = 1 + random_() % 4; steps > 0; --steps) {
        ladder.push_back(pick({HealStep::kRestart, HealStep::kRestart, HealStep::kRestore,
                               HealStep::kRestore, HealStep::kGiveUp}));
      }
    }
  }
  options_.detection.hang_window = pick<Duration>({5s, 20s});
  options_.stop_grace = pick<Duration>({0s, 5s, 30s});
  options_.heal_stop_grace = pick<Duration>({0s, 1s});
  options_.drain_wait = pick<Duration>({0s, 5s, 25s});
  options_.random_seed = random_();
}

void HealWorld::choose_climate() {
  climate_.only_advisories = likely(0.1);
  climate_.disk_errors = likely(0.2);
  climate_.with_state = likely(0.8);
  climate_.stop_in_the_middle = likely(0.4);
  climate_.mean_time_between_faults = pick<Duration>({2s, 15s, 60s});
  orchestrator_.start_delay = between(0ms, 50ms);
  orchestrator_.stop_delay = between(0ms, 3s);
  keeper_.check_delay = between(0ms, 200ms);
  keeper_.restore_delay = between(0ms, 5s);
  log_.delay = between(0ms, 100ms);
  drain_.requests_take = between(0ms, 40s);
  drain_.stuck = likely(0.1);
  alerter_.stuck = likely(0.1);
  if (!climate_.only_advisories) keeper_.damaged = likely(0.1);
}

SupervisorHooks HealWorld::hooks() {
  SupervisorHooks hooks;
  hooks.on_incident = [this](const Incident& incident) {
    note(fmt::format("incident {} {} {}", incident.id,
                     incident.status == IncidentStatus::kOpen ? "open" : "closed",
                     closed_reason_name(incident.closed_reason)));
    checks_->note_incident(incident);
  };
  hooks.on_agent_started = [this](const AgentInstance&) { on_started(); };
  hooks.on_agent_stopped = [this] {
    ready_timer_.cancel();
    fault_timer_.cancel();
    flap_timer_.cancel();
  };
  hooks.final_snapshot = [this](Task done) {
    if (likely(0.9)) loop_.post(std::move(done));
  };
  hooks.on_finished = [this](int code) { exit_code_ = code; };
  return hooks;
}

void HealWorld::note(std::string_view what) {
  if (!trace_) return;
  const std::string line =
      fmt::format("{:9.3f} {:<16} {}\n", to_seconds(loop_.now().time_since_epoch()) - 1000,
                  phase_name(supervisor_->phase()), what);
  std::fputs(line.c_str(), stdout);
}

void HealWorld::on_started() {
  note(fmt::format("agent started, generation {}", orchestrator_.generation()));
  ill_ = Ill::kNo;
  waits_for_dependency_ = false;
  probe_failures_ = 0;
  plan_fault();
  if (!calm_ && !climate_.only_advisories && likely(0.1)) {
    checks_->note_fault();
    note("will never be ready");
    return;
  }
  ready_timer_ = loop_.add_timer(between(0ms, 1s), [this] { supervisor_->on_ready(); });
}

void HealWorld::plan_fault() {
  if (calm_) return;
  const double mean = to_seconds(climate_.mean_time_between_faults);
  const double wait = std::exponential_distribution<double>(1 / mean)(random_);
  fault_timer_ = loop_.add_timer(
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>(std::min(wait, 1000.0))),
      [this] {
        if (climate_.only_advisories || likely(0.2)) {
          strike_advisory();
        } else {
          strike();
        }
      });
}

void HealWorld::strike_advisory() {
  if (likely(0.5)) {
    note("overload");
    rejected_ += 1 + random_() % 100;
  } else {
    note("a dependency is slow");
    waits_for_dependency_ = !waits_for_dependency_;
    waits_since_ = loop_.now();
  }
  plan_fault();
}

void HealWorld::strike() {
  checks_->note_fault();
  ill_since_ = loop_.now();
  // What the next start will meet.
  keeper_.damaged = climate_.with_state && likely(0.2);
  keeper_.check_error.reset();
  keeper_.restore_error.reset();
  orchestrator_.start_error.reset();
  if (likely(0.1)) keeper_.check_error = error_of(ErrorCode::kIo, "check failed");
  if (likely(0.2)) {
    keeper_.restore_error =
        error_of(likely(0.5) ? ErrorCode::kNotFound : ErrorCode::kCorrupt, "restore failed");
  }
  if (likely(0.05)) orchestrator_.start_error = error_of(ErrorCode::kPermission, "start failed");
  orchestrator_.ignores_sigterm = likely(0.5);
  switch (random_() % 8) {
    case 0:
      note("deadlock");
      ill_ = Ill::kDeadlocked;
      break;
    case 1:
      note("hang");
      ill_ = Ill::kHung;
      break;
    case 2:
      note("liveness fails");
      ill_ = Ill::kUnprobed;
      break;
    case 3:
      note("readiness flaps");
      supervisor_->on_unready("flap");
      flap_timer_ = loop_.add_timer(between(0ms, 3s), [this] { supervisor_->on_ready(); });
      plan_fault();
      break;
    case 4:
      if (climate_.with_state) {
        note("state damaged under it");
        supervisor_->observe({loop_.now(), StateChecked{true, "damaged"}});
        break;
      }
      [[fallthrough]];
    case 5:
      note("out of memory");
      orchestrator_.exit_agent(137, 9, true);
      break;
    default:
      if (likely(0.03)) {
        note("exits with 0");
        orchestrator_.exit_agent(0);
      } else {
        note("crash");
        orchestrator_.exit_agent(1);
      }
  }
}

void HealWorld::change_disk() {
  checks_->note_disk_trouble();
  log_.error.reset();
  log_.stuck = likely(0.2);
  if (likely(0.5)) log_.error = error_of(ErrorCode::kNoSpace, "no space left");
  if (!calm_) disk_timer_ = loop_.add_timer(between(1s, 30s), [this] { change_disk(); });
}

ProgressSample HealWorld::progress() const {
  ProgressSample sample;
  sample.generation = orchestrator_.generation();
  sample.process_seen = true;
  sample.cpus_available = 2;
  sample.in_flight = 1;
  sample.oldest_request = "POST /invoke";
  const bool stuck = ill_ == Ill::kHung || ill_ == Ill::kDeadlocked;
  const MonotonicTime since = stuck ? ill_since_ : waits_since_;
  sample.oldest_age = stuck || waits_for_dependency_ ? loop_.now() - since : Duration{10ms};
  sample.bytes_from_agent = bytes_;
  if (waits_for_dependency_ && !stuck) {
    sample.outbound.push_back(
        {"10.0.0.7:5432", OutboundCall::State::kAwaiting, loop_.now() - waits_since_});
  }
  return sample;
}

void HealWorld::sample() {
  if (orchestrator_.running()) {
    if (ill_ == Ill::kNo && !waits_for_dependency_) bytes_ += 1000;
    supervisor_->observe({loop_.now(), progress()});
    DeadlockSample deadlock;
    deadlock.generation = orchestrator_.generation();
    deadlock.pid = supervisor_->instance().pid;
    if (ill_ == Ill::kDeadlocked) {
      deadlock.cycle = {{11, "a", "mutex", 0x70, "", 12, "b", 5},
                        {12, "b", "mutex", 0x80, "", 11, "a", 6}};
      supervisor_->observe({loop_.now(), deadlock});
    }
    ProbeResult probe;
    const bool fails = ill_ == Ill::kUnprobed;
    probe_failures_ = fails ? probe_failures_ + 1 : 0;
    probe.outcome = fails ? ProbeOutcome::kFailure : ProbeOutcome::kSuccess;
    probe.reason = fails ? "connection refused" : "";
    probe.consecutive = fails ? probe_failures_ : 1;
    probe.healthy = probe_failures_ < 3;
    supervisor_->observe({loop_.now(), probe});
    look_at_overload();
  }
  if (!exit_code_) sample_timer_ = loop_.add_timer(sample_interval, [this] { sample(); });
}

void HealWorld::look_at_overload() {
  supervisor_->observe({loop_.now(), OverloadSample{rejected_, 10, 10}});
}

bool HealWorld::check() { return checks_->after_event(loop_.now()).empty(); }

bool HealWorld::step_until(MonotonicTime end) {
  const auto holds = [this] { return check(); };
  while (!exit_code_ && loop_.now() < end) {
    if (!loop_.step() || !holds()) return holds();
  }
  return holds();
}

void HealWorld::heal_the_world() {
  note("the world calms down");
  calm_ = true;
  fault_timer_.cancel();
  keeper_.damaged = false;
  keeper_.check_error.reset();
  keeper_.restore_error.reset();
  orchestrator_.start_error.reset();
  log_.error.reset();
  log_.stuck = false;
  disk_timer_.cancel();
  if (orchestrator_.running()) {
    // An instance that is ill, or was never to be ready, stays so until it is healed.
    waits_for_dependency_ = false;
  }
}

std::string HealWorld::run() {
  const auto result = [this](std::string what) {
    return what.empty() ? what
                        : fmt::format("seed {}, {:.3f} s, {}: {}", seed_,
                                      to_seconds(loop_.now().time_since_epoch()) - 1000,
                                      phase_name(supervisor_->phase()), what);
  };
  // The first start may meet damaged state, the first instance may never be ready.
  checks_->note_fault();
  sample_timer_ = loop_.add_timer(sample_interval, [this] { sample(); });
  if (climate_.disk_errors) change_disk();
  const auto stop = [this] {
    note("stop");
    checks_->note_stop();
    supervisor_->shutdown();
  };
  if (climate_.stop_in_the_middle) {
    stop_timer_ = loop_.add_timer(between(0s, life), [this, stop] {
      stop();
      if (likely(0.5)) stop_timer_ = loop_.add_timer(between(0s, 10s), stop);
    });
  }
  supervisor_->start();
  if (!step_until(loop_.now() + life)) return result(checks_->after_event(loop_.now()));
  heal_the_world();
  if (!step_until(loop_.now() + calm_time)) return result(checks_->after_event(loop_.now()));
  if (climate_.only_advisories && !climate_.stop_in_the_middle) {
    if (orchestrator_.starts.size() != 1 || !orchestrator_.stops.empty()) {
      return result("something was done about a fault that nothing must be done about");
    }
  }
  if (!exit_code_) {
    // A first instance that was never to be ready waits for ever: there is no fault to see.
    const bool waits =
        supervisor_->phase() == Phase::kWarmingUp && supervisor_->open_incident() == nullptr;
    if (supervisor_->phase() != Phase::kServing && !waits && !climate_.stop_in_the_middle) {
      return result("neither serving nor ended, although nothing is wrong any more");
    }
    stop();
    if (!step_until(loop_.now() + 5min)) return result(checks_->after_event(loop_.now()));
  }
  if (!exit_code_) return result("did not end");
  return result(checks_->at_end());
}

}  // namespace remora::simulation
