// What healing acts through, scripted: the state, the incident log, alerts, the gate and the drain.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sidecar/heal/supervisor.h"

namespace remora {

class FakeStateKeeper final : public StateKeeper {
 public:
  explicit FakeStateKeeper(Loop& loop) : loop_(loop) {}

  bool damaged = false;
  std::optional<Error> check_error;
  std::optional<Error> restore_error;
  Duration check_delay = std::chrono::milliseconds(1);
  Duration restore_delay = std::chrono::milliseconds(50);
  int checks = 0;
  int restores = 0;
  std::string asked_for;  // in the last restore

  void check_state(std::move_only_function<void(Result<StateCheck>)> done) override {
    ++checks;
    check_timer_ = loop_.add_timer(check_delay, [this, done = std::move(done)]() mutable {
      if (check_error) {
        done(std::unexpected(*check_error));
      } else {
        done(StateCheck{damaged, damaged ? "memory.db is malformed" : ""});
      }
    });
  }
  void restore(const std::string& id,
               std::move_only_function<void(Result<RestoredSnapshot>)> done) override {
    ++restores;
    asked_for = id;
    restore_timer_ = loop_.add_timer(restore_delay, [this, done = std::move(done)]() mutable {
      if (restore_error) {
        done(std::unexpected(*restore_error));
      } else {
        damaged = false;
        done(RestoredSnapshot{asked_for.empty() ? "snap-1" : asked_for, 1});
      }
    });
  }

 private:
  Loop& loop_;
  Subscription check_timer_;
  Subscription restore_timer_;
};

class FakeIncidentLog final : public IncidentLog {
 public:
  explicit FakeIncidentLog(Loop& loop) : loop_(loop) {}

  std::optional<Error> error;  // every write fails with it
  bool stuck = false;          // writes never finish
  Duration delay = std::chrono::milliseconds(2);
  std::map<std::string, Incident> kept;  // by id: oldest first
  size_t writes = 0;

  void write(const Incident& incident, Done done) override {
    ++writes;
    if (stuck) return;
    // Writes finish in order: each waits for the one before it.
    const MonotonicTime due = std::max(last_due_, loop_.now() + delay);
    last_due_ = due + Duration{1};
    timers_.push_back(loop_.add_timer(
        due - loop_.now(), [this, incident, done = std::move(done), refusal = error]() mutable {
          if (refusal) {
            done(std::unexpected(*refusal));
          } else {
            kept[incident.id] = incident;
            done({});
          }
        }));
  }
  std::vector<Incident> of(FaultKind fault) const {
    std::vector<Incident> found;
    for (const auto& [id, incident] : kept) {
      if (incident.fault == fault) found.push_back(incident);
    }
    return found;
  }

 private:
  Loop& loop_;
  MonotonicTime last_due_{};
  std::vector<Subscription> timers_;
};

class FakeAlerter final : public Alerter {
 public:
  explicit FakeAlerter(Loop& loop) : loop_(loop) {}
  bool stuck = false;
  std::vector<Incident> alerts;
  void alert(const Incident& incident, Task done) override {
    alerts.push_back(incident);
    if (!stuck) loop_.post(std::move(done));
  }

 private:
  Loop& loop_;
};

class FakeGate final : public GateControl {
 public:
  bool up = false;
  uint64_t generation = 0;
  int ups = 0;
  std::string reason;  // of the last agent_down
  void agent_up(uint64_t gen) override {
    up = true;
    generation = gen;
    ++ups;
  }
  void agent_down(std::string_view why) override {
    up = false;
    reason = why;
  }
};

class FakeDrain final : public DrainControl {
 public:
  explicit FakeDrain(Loop& loop) : loop_(loop) {}
  Duration requests_take{0};  // what is in flight finishes after this
  bool stuck = false;
  std::vector<Duration> waits;  // of each call
  void begin_drain(Duration wait_max, Task done) override {
    waits.push_back(wait_max);
    if (stuck) return;
    timers_.push_back(loop_.add_timer(std::min(wait_max, requests_take), std::move(done)));
  }

 private:
  Loop& loop_;
  std::vector<Subscription> timers_;
};

}  // namespace remora
