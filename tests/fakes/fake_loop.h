// A deterministic Loop with virtual time: nothing happens until the test runs it, time moves only
// from timer to timer, and what is due at the same moment runs in an order shuffled by the seed, so
// that tests can't come to depend on one.
//
// Posted tasks keep their order (the Loop seam promises FIFO). Tasks from other threads are taken
// when the loop is run. Descriptors are never looked at: fire_fd() says that one is ready.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

#include "sidecar/net/loop.h"

namespace remora {

class FakeClock final : public Clock {
 public:
  MonotonicTime now() const override { return now_; }
  WallTime wall_now() const override { return wall_epoch + now_.time_since_epoch(); }
  void advance_to(MonotonicTime t) { now_ = std::max(now_, t); }

  // 2026-01-01T00:00:00Z
  static constexpr WallTime wall_epoch{std::chrono::seconds(1'767'225'600)};

 private:
  MonotonicTime now_{std::chrono::seconds(1000)};
};

class FakeLoop final : public Loop {
 public:
  explicit FakeLoop(uint64_t seed = 1) : random_(seed) {}
  FakeLoop(const FakeLoop&) = delete;
  FakeLoop& operator=(const FakeLoop&) = delete;
  ~FakeLoop() override {
    posted_.clear();
    dying_.clear();
  }

  const Clock& clock() const override { return clock_; }
  MonotonicTime now() const override { return clock_.now(); }

  void post(Task task) override { posted_.push_back(std::move(task)); }
  void post_from_any_thread(Task task) override {
    const std::lock_guard lock(mutex_);
    remote_.push_back(std::move(task));
  }

  Subscription add_timer(Duration delay, Task task) override {
    auto entry = std::make_shared<TimerEntry>();
    entry->task = std::move(task);
    const MonotonicTime due = clock_.now() + std::max(delay, Duration{0});
    timers_.emplace(std::pair(due, random_()), entry);
    return Subscription(std::make_unique<TimerHandle>(entry));
  }

  std::unique_ptr<FdWatch> watch_fd(int fd, FdEvents events,
                                    std::move_only_function<void(FdEvents)> callback) override {
    auto entry = std::make_shared<FdEntry>();
    entry->fd = fd;
    entry->events = events;
    entry->callback = std::move(callback);
    fds_.push_back(entry);
    return std::make_unique<FakeWatch>(entry);
  }

  Subscription watch_signal(int signo, Task callback) override {
    auto entry = std::make_shared<SignalEntry>();
    entry->signo = signo;
    entry->callback = std::move(callback);
    signals_.push_back(entry);
    return Subscription(std::make_unique<SignalHandle>(entry));
  }

  void defer_delete(std::unique_ptr<Deferred> object) override {
    dying_.push_back(std::move(object));
  }

  // Until there is nothing left to do, or stop().
  void run() override {
    stopped_ = false;
    while (!stopped_ && step()) {
    }
  }
  void stop() override { stopped_ = true; }

  // Everything due up to now + span, then time is now + span.
  void run_for(Duration span) {
    const MonotonicTime end = clock_.now() + span;
    stopped_ = false;
    while (!stopped_) {
      run_posted();
      const auto next = next_timer();
      if (next == timers_.end() || next->first.first > end) break;
      fire(next);
    }
    clock_.advance_to(end);
  }
  // Time passes and nothing runs: the process is stopped. What came due meanwhile runs next.
  void freeze_for(Duration span) { clock_.advance_to(clock_.now() + span); }
  // What can be done without time passing.
  void run_ready() { run_for(Duration{0}); }
  // True once condition holds; false when nothing is left to do, or after span.
  bool run_until(const std::function<bool()>& condition, Duration span) {
    const MonotonicTime end = clock_.now() + span;
    while (!condition()) {
      if (run_one_posted()) continue;
      const auto next = next_timer();
      if (next == timers_.end() || next->first.first > end) return false;
      fire(next);
    }
    return true;
  }
  // One posted task or else one timer; false when there is neither.
  bool step() {
    if (run_one_posted()) return true;
    const auto next = next_timer();
    if (next == timers_.end()) return false;
    fire(next);
    return true;
  }

  // Makes fd ready; true when somebody watched for it.
  bool fire_fd(int fd, FdEvents events) {
    bool heard = false;
    const auto watched = fds_;
    for (const auto& entry : watched) {
      if (entry->dead || entry->fd != fd) continue;
      const auto both =
          static_cast<FdEvents>(static_cast<uint8_t>(entry->events) & static_cast<uint8_t>(events));
      if (both == FdEvents::kNone) continue;
      heard = true;
      entry->callback(both);
    }
    std::erase_if(fds_, [](const auto& entry) { return entry->dead; });
    return heard;
  }
  void fire_signal(int signo) {
    const auto watched = signals_;
    for (const auto& entry : watched) {
      if (!entry->dead && entry->signo == signo) entry->callback();
    }
    std::erase_if(signals_, [](const auto& entry) { return entry->dead; });
  }

  size_t timers_pending() {
    return static_cast<size_t>(std::count_if(timers_.begin(), timers_.end(),
                                             [](const auto& t) { return !t.second->cancelled; }));
  }
  uint64_t random() { return random_(); }

 private:
  struct TimerEntry {
    Task task;
    bool cancelled = false;
  };
  // Due time, then a random number: simultaneous timers fire in a shuffled order.
  using Timers = std::multimap<std::pair<MonotonicTime, uint64_t>, std::shared_ptr<TimerEntry>>;
  struct TimerHandle final : Subscription::Impl {
    explicit TimerHandle(std::shared_ptr<TimerEntry> e) : entry(std::move(e)) {}
    ~TimerHandle() override { entry->cancelled = true; }
    TimerHandle(const TimerHandle&) = delete;
    TimerHandle& operator=(const TimerHandle&) = delete;
    std::shared_ptr<TimerEntry> entry;
  };
  struct FdEntry {
    int fd = -1;
    FdEvents events = FdEvents::kNone;
    std::move_only_function<void(FdEvents)> callback;
    bool dead = false;
  };
  struct FakeWatch final : FdWatch {
    explicit FakeWatch(std::shared_ptr<FdEntry> e) : entry(std::move(e)) {}
    ~FakeWatch() override { entry->dead = true; }
    FakeWatch(const FakeWatch&) = delete;
    FakeWatch& operator=(const FakeWatch&) = delete;
    void set_events(FdEvents events) override { entry->events = events; }
    std::shared_ptr<FdEntry> entry;
  };
  struct SignalEntry {
    int signo = 0;
    Task callback;
    bool dead = false;
  };
  struct SignalHandle final : Subscription::Impl {
    explicit SignalHandle(std::shared_ptr<SignalEntry> e) : entry(std::move(e)) {}
    ~SignalHandle() override { entry->dead = true; }
    SignalHandle(const SignalHandle&) = delete;
    SignalHandle& operator=(const SignalHandle&) = delete;
    std::shared_ptr<SignalEntry> entry;
  };

  Timers::iterator next_timer() {
    auto it = timers_.begin();
    while (it != timers_.end() && it->second->cancelled) it = timers_.erase(it);
    return it;
  }
  void fire(Timers::iterator it) {
    clock_.advance_to(it->first.first);
    const std::shared_ptr<TimerEntry> entry = it->second;
    timers_.erase(it);
    entry->task();
  }
  bool run_one_posted() {
    take_remote();
    if (posted_.empty()) {
      // Destructors may defer further objects; those wait for the next round.
      std::vector<std::unique_ptr<Deferred>> dying;
      dying.swap(dying_);
      return !dying.empty();
    }
    Task task = std::move(posted_.front());
    posted_.pop_front();
    task();
    return true;
  }
  void run_posted() {
    while (!stopped_ && run_one_posted()) {
    }
  }
  void take_remote() {
    const std::lock_guard lock(mutex_);
    for (Task& task : remote_) posted_.push_back(std::move(task));
    remote_.clear();
  }

  FakeClock clock_;
  std::mt19937_64 random_;
  Timers timers_;
  std::deque<Task> posted_;
  std::vector<std::unique_ptr<Deferred>> dying_;
  std::vector<std::shared_ptr<FdEntry>> fds_;
  std::vector<std::shared_ptr<SignalEntry>> signals_;
  bool stopped_ = false;
  std::mutex mutex_;
  std::vector<Task> remote_;
};

}  // namespace remora
