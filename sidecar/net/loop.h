// The seam to the event loop. One loop, one thread for the data path and the control path; file
// I/O and hashing run on a WorkerThread (sidecar/base/worker.h) and post back.
//
// Every call below is made on the loop's thread, except post_from_any_thread. Callbacks run on the
// loop's thread, never from inside the call that registered them. Destroying a Subscription inside
// any callback, its own included, is allowed and final.
#pragma once

#include <functional>
#include <memory>

#include "sidecar/base/clock.h"
#include "sidecar/base/handle.h"

namespace remora {

using Task = std::move_only_function<void()>;

// Base of objects that may die while one of their callbacks is on the stack.
class Deferred {
 public:
  virtual ~Deferred() = default;
};

enum class FdEvents : uint8_t { kNone = 0, kRead = 1, kWrite = 2, kReadWrite = 3 };
inline bool has_read(FdEvents e) { return (static_cast<uint8_t>(e) & 1) != 0; }
inline bool has_write(FdEvents e) { return (static_cast<uint8_t>(e) & 2) != 0; }

// A level-triggered watch on a descriptor. The descriptor stays the caller's and must outlive it.
class FdWatch {
 public:
  virtual ~FdWatch() = default;
  virtual void set_events(FdEvents events) = 0;
};

class Loop {
 public:
  virtual ~Loop() = default;

  virtual const Clock& clock() const = 0;
  // The time at which this round of callbacks began: cheap, good for deadlines.
  virtual MonotonicTime now() const = 0;

  // Runs task after the current callback returns, before the loop next waits. FIFO.
  virtual void post(Task task) = 0;
  // The same from any thread; wakes the loop. Tasks posted after the loop stopped are destroyed
  // unrun.
  virtual void post_from_any_thread(Task task) = 0;

  // Runs task once, not before delay has passed.
  [[nodiscard]] virtual Subscription add_timer(Duration delay, Task task) = 0;
  // Calls back for as long as an event in the set is ready. Errors and hang-ups are reported as
  // read and write both, so that the next system call meets them.
  [[nodiscard]] virtual std::unique_ptr<FdWatch> watch_fd(
      int fd, FdEvents events, std::move_only_function<void(FdEvents)> callback) = 0;
  // Calls back on the loop for each delivery of signo to the process.
  [[nodiscard]] virtual Subscription watch_signal(int signo, Task callback) = 0;

  // Destroys object after the current callback round.
  virtual void defer_delete(std::unique_ptr<Deferred> object) = 0;

  virtual void run() = 0;
  virtual void stop() = 0;
};

}  // namespace remora
