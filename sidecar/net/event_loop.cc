#include "sidecar/net/event_loop.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <utility>

#include <sys/eventfd.h>
#include <unistd.h>

namespace remora {
namespace {

// libevent refuses only when memory is gone or an argument is nonsense: neither can be handled.
void must(bool ok) {
  if (!ok) std::abort();
}

timeval to_timeval(Duration delay) {
  const int64_t us = std::max<int64_t>(0, std::chrono::duration_cast<std::chrono::microseconds>(
                                              delay + std::chrono::nanoseconds(999))
                                              .count());
  return {us / 1'000'000, us % 1'000'000};
}

}  // namespace

class EventLoop::Timer final : public Subscription::Impl {
 public:
  Timer(EventLoop& loop, Duration delay, Task task)
      : clock_(loop.clock_),
        due_(clock_.now() + delay),
        task_(std::move(task)),
        event_(evtimer_new(loop.base_.get(), fire, this)) {
    must(event_ != nullptr);
    add(delay);
  }

 private:
  static void fire(int /*fd*/, short /*what*/, void* self) { static_cast<Timer*>(self)->on_fire(); }
  void on_fire() {
    // libevent counts from the beginning of the turn, and by a coarse clock: it may be early.
    if (const Duration left = due_ - clock_.now(); left > Duration{}) return add(left);
    // The task may destroy this timer, so it is moved out before it runs.
    Task task = std::move(task_);
    task();
  }
  void add(Duration delay) {
    const timeval tv = to_timeval(delay);
    must(evtimer_add(event_.get(), &tv) == 0);
  }

  const Clock& clock_;
  MonotonicTime due_;
  Task task_;
  CHandle<event, event_free> event_;
};

class EventLoop::SignalWatch final : public Subscription::Impl {
 public:
  SignalWatch(EventLoop& loop, int signo, Task callback)
      : callback_(std::make_shared<Task>(std::move(callback))),
        event_(evsignal_new(loop.base_.get(), signo, fire, this)) {
    must(event_ != nullptr && evsignal_add(event_.get(), nullptr) == 0);
  }

 private:
  static void fire(int /*signo*/, short /*what*/, void* self) {
    const std::shared_ptr<Task> callback = static_cast<SignalWatch*>(self)->callback_;
    (*callback)();
  }

  std::shared_ptr<Task> callback_;
  CHandle<event, event_free> event_;
};

// Two events, so that arming one direction never touches the other.
class EventLoop::Watch final : public FdWatch {
 public:
  Watch(EventLoop& loop, int fd, FdEvents events, std::move_only_function<void(FdEvents)> callback)
      : callback_(std::move(callback)),
        read_(event_new(loop.base_.get(), fd, EV_READ | EV_PERSIST, on_read, this)),
        write_(event_new(loop.base_.get(), fd, EV_WRITE | EV_PERSIST, on_write, this)) {
    must(read_ != nullptr && write_ != nullptr);
    set_events(events);
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() override {
    if (running_ != nullptr) *running_ = false;
  }

  void set_events(FdEvents events) override {
    if (has_read(events) != has_read(events_)) {
      must((has_read(events) ? event_add(read_.get(), nullptr) : event_del(read_.get())) == 0);
    }
    if (has_write(events) != has_write(events_)) {
      must((has_write(events) ? event_add(write_.get(), nullptr) : event_del(write_.get())) == 0);
    }
    events_ = events;
  }

 private:
  static void on_read(int /*fd*/, short /*what*/, void* self) {
    static_cast<Watch*>(self)->dispatch(FdEvents::kRead);
  }
  static void on_write(int /*fd*/, short /*what*/, void* self) {
    static_cast<Watch*>(self)->dispatch(FdEvents::kWrite);
  }
  void dispatch(FdEvents what) {
    // The callback may destroy this watch, so it is moved out while it runs.
    std::move_only_function<void(FdEvents)> callback = std::move(callback_);
    bool alive = true;
    running_ = &alive;
    callback(what);
    if (!alive) return;
    running_ = nullptr;
    callback_ = std::move(callback);
  }

  std::move_only_function<void(FdEvents)> callback_;
  FdEvents events_ = FdEvents::kNone;
  bool* running_ = nullptr;
  CHandle<event, event_free> read_;
  CHandle<event, event_free> write_;
};

EventLoop::EventLoop() {
  const CHandle<event_config, event_config_free> config(event_config_new());
  must(config != nullptr);
  must(event_config_set_flag(config.get(), EVENT_BASE_FLAG_NOLOCK) == 0);
  base_.reset(event_base_new_with_config(config.get()));
  must(base_ != nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  wake_fd_.reset(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  must(static_cast<bool>(wake_fd_));
  wake_watch_ = watch_fd(wake_fd_.get(), FdEvents::kRead, [this](FdEvents) { take_remote(); });
}

EventLoop::~EventLoop() {
  // What dies here may hand over more.
  while (!posted_.empty() || !remote_.empty() || !dying_.empty()) {
    std::exchange(posted_, {});
    std::exchange(remote_, {});
    std::exchange(dying_, {});
  }
  wake_watch_.reset();
}

MonotonicTime EventLoop::now() const {
  if (!turn_time_known_) {
    turn_began_ = clock_.now();
    turn_time_known_ = true;
  }
  return turn_began_;
}

void EventLoop::post_from_any_thread(Task task) {
  bool first = false;
  {
    const std::lock_guard lock(remote_mutex_);
    first = remote_.empty();
    remote_.push_back(std::move(task));
  }
  if (first) {
    const uint64_t one = 1;
    // The counter can't overflow: it is written once between two reads.
    must(::write(wake_fd_.get(), &one, sizeof one) == sizeof one);
  }
}

void EventLoop::take_remote() {
  uint64_t count = 0;
  must(::read(wake_fd_.get(), &count, sizeof count) == sizeof count);
  std::vector<Task> tasks;
  {
    const std::lock_guard lock(remote_mutex_);
    tasks.swap(remote_);
  }
  for (Task& task : tasks) task();
}

Subscription EventLoop::add_timer(Duration delay, Task task) {
  return Subscription(std::make_unique<Timer>(*this, delay, std::move(task)));
}

std::unique_ptr<FdWatch> EventLoop::watch_fd(int fd, FdEvents events,
                                             std::move_only_function<void(FdEvents)> callback) {
  return std::make_unique<Watch>(*this, fd, events, std::move(callback));
}

Subscription EventLoop::watch_signal(int signo, Task callback) {
  return Subscription(std::make_unique<SignalWatch>(*this, signo, std::move(callback)));
}

void EventLoop::run_posted() {
  while (!posted_.empty()) {
    running_.swap(posted_);
    for (Task& task : running_) task();
    running_.clear();
  }
  // Destructors may defer further objects; those wait for the next turn.
  std::vector<std::unique_ptr<Deferred>> dying;
  dying.swap(dying_);
}

void EventLoop::run() {
  stopping_ = false;
  run_posted();
  while (!stopping_) {
    const bool busy = !posted_.empty() || !dying_.empty();
    turn_time_known_ = false;
    must(event_base_loop(base_.get(), EVLOOP_ONCE | (busy ? EVLOOP_NONBLOCK : 0)) >= 0);
    run_posted();
  }
}

}  // namespace remora
