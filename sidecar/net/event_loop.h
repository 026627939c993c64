// Loop on libevent. Each turn waits for events once, runs the callbacks of that batch, then the
// posted tasks, then destroys what was deferred; so work posted from callbacks (such as "write
// this connection's output") happens once a turn, however many events asked for it.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include <event2/event.h>

#include "sidecar/net/loop.h"

namespace remora {

class EventLoop final : public Loop {
 public:
  EventLoop();
  ~EventLoop() override;
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  const Clock& clock() const override { return clock_; }
  MonotonicTime now() const override;
  void post(Task task) override { posted_.push_back(std::move(task)); }
  void post_from_any_thread(Task task) override;
  Subscription add_timer(Duration delay, Task task) override;
  std::unique_ptr<FdWatch> watch_fd(int fd, FdEvents events,
                                    std::move_only_function<void(FdEvents)> callback) override;
  Subscription watch_signal(int signo, Task callback) override;
  void defer_delete(std::unique_ptr<Deferred> object) override {
    dying_.push_back(std::move(object));
  }
  void run() override;
  void stop() override { stopping_ = true; }
  // For libevent's own services (Resolver).
  event_base* base() { return base_.get(); }

 private:
  class Timer;
  class Watch;
  class SignalWatch;

  void run_posted();
  void take_remote();

  SystemClock clock_;
  mutable MonotonicTime turn_began_{};
  mutable bool turn_time_known_ = false;
  CHandle<event_base, event_base_free> base_;
  std::vector<Task> posted_;
  std::vector<Task> running_;
  std::vector<std::unique_ptr<Deferred>> dying_;
  bool stopping_ = false;

  std::mutex remote_mutex_;
  std::vector<Task> remote_;
  UniqueFd wake_fd_;
  std::unique_ptr<FdWatch> wake_watch_;
};

}  // namespace remora
