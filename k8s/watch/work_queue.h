// Keys of objects to look at, each at most once in the queue: what comes while its key waits is the
// same look, and what comes while its key is being looked at makes one more look afterwards. So no
// key is ever looked at twice at the same time, and the last change is always seen.
//
// A look that fails is repeated after a pause of its own that grows with each failure in a row.
// Loop thread only.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>

#include "k8s/watch/backoff.h"
#include "sidecar/net/loop.h"

namespace remora::k8s {

inline constexpr size_t work_items_max = 200'000;

struct WorkOutcome {
  bool failed = false;
  // Look again after this, whatever happens. Of a failure: instead of its back-off (Retry-After).
  std::optional<Duration> again_after{};
};

struct WorkQueueOptions {
  size_t workers_max = 16;  // looks under way
  BackoffRules backoff{std::chrono::milliseconds(200), std::chrono::seconds(60)};
  uint32_t seed = 1;
};

class WorkQueue {
 public:
  using Done = std::move_only_function<void(WorkOutcome)>;
  // Must call done exactly once, at once or later.
  using Work = std::function<void(const std::string& key, Done done)>;

  WorkQueue(Loop& loop, WorkQueueOptions options, Work work);
  ~WorkQueue();
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  // False when the queue is full: the key is not in it.
  bool add(const std::string& key);
  // At the latest after delay: of several, the first one counts.
  bool add_after(const std::string& key, Duration delay);
  // Forgets everything that waits; what is under way ends without effect.
  void clear();

  size_t waiting() const { return ready_.size(); }
  size_t under_way() const { return working_; }
  uint64_t failures() const { return failures_; }
  // Of the one that has waited longest.
  Duration oldest_wait() const;

 private:
  enum class State : uint8_t { kIdle, kReady, kWorking, kWorkingAndDirty };
  struct Item {
    State state = State::kIdle;
    uint32_t failures = 0;  // in a row
    MonotonicTime since{};
    uint64_t look = 0;    // the one under way
    MonotonicTime due{};  // of the timer
    Subscription timer;
  };
  void make_ready(const std::string& key, Item& item);
  void pump_soon();
  void pump();
  void end(const std::string& key, uint64_t look, const WorkOutcome& outcome);
  void drop_if_idle(const std::string& key);

  Loop& loop_;
  const WorkQueueOptions options_;
  Work work_;
  std::map<std::string, Item> items_;
  std::deque<std::string> ready_;
  size_t working_ = 0;
  uint64_t looks_ = 0;
  uint64_t failures_ = 0;
  bool pump_posted_ = false;
  std::minstd_rand random_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace remora::k8s
