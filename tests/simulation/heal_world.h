// One simulated life of an agent under the real Supervisor, Classifier and decide(), driven by a
// seed: the policy, the speed of everything, and what goes wrong and when, all come from it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include "sidecar/heal/supervisor.h"
#include "tests/fakes/fake_heal_seams.h"
#include "tests/fakes/fake_loop.h"
#include "tests/fakes/fake_orchestrator.h"
#include "tests/simulation/heal_checks.h"

namespace remora::simulation {

// What goes wrong in this life.
struct Climate {
  bool only_advisories = false;  // dependency and overload faults, nothing else
  bool disk_errors = false;      // the incident log fails or gets stuck at times
  bool with_state = true;
  bool stop_in_the_middle = false;
  Duration mean_time_between_faults{};
};

class HealWorld {
 public:
  HealWorld(uint64_t seed, bool trace);
  ~HealWorld();
  HealWorld(const HealWorld&) = delete;
  HealWorld& operator=(const HealWorld&) = delete;

  // Lives through it. Empty when every check held, else what broke and when.
  std::string run();

 private:
  enum class Ill : uint8_t { kNo, kHung, kDeadlocked, kUnprobed };

  double chance() { return std::uniform_real_distribution<double>(0, 1)(random_); }
  bool likely(double probability) { return chance() < probability; }
  Duration between(Duration low, Duration high);
  template <typename T>
  T pick(std::initializer_list<T> from) {
    return *(from.begin() + static_cast<ptrdiff_t>(random_() % from.size()));
  }

  void choose_policy();
  void choose_climate();
  SupervisorHooks hooks();
  bool step_until(MonotonicTime end);
  bool check();
  void note(std::string_view what);

  // The agent's life.
  void on_started();
  void plan_fault();
  void strike();
  void strike_advisory();
  void change_disk();
  void sample();
  void look_at_overload();
  ProgressSample progress() const;
  void heal_the_world();

  uint64_t seed_;
  bool trace_;
  std::mt19937_64 random_;
  FakeLoop loop_;
  FakeOrchestrator orchestrator_{loop_};
  FakeStateKeeper keeper_{loop_};
  FakeIncidentLog log_{loop_};
  FakeAlerter alerter_{loop_};
  FakeGate gate_;
  FakeDrain drain_{loop_};
  SupervisorOptions options_;
  Climate climate_;
  std::unique_ptr<Supervisor> supervisor_;
  std::unique_ptr<HealChecks> checks_;

  bool calm_ = false;  // the world has stopped breaking things
  Ill ill_ = Ill::kNo;
  bool waits_for_dependency_ = false;
  MonotonicTime ill_since_{};
  MonotonicTime waits_since_{};
  uint64_t rejected_ = 0;
  uint32_t probe_failures_ = 0;
  uint64_t bytes_ = 0;
  Subscription ready_timer_;
  Subscription fault_timer_;
  Subscription flap_timer_;
  Subscription sample_timer_;
  Subscription disk_timer_;
  Subscription stop_timer_;
  std::optional<int> exit_code_;
};

}  // namespace remora::simulation
