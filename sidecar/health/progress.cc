#include "sidecar/health/progress.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "sidecar/base/worker.h"
#include "sidecar/health/deadlock.h"
#include "sidecar/health/process.h"

namespace remora {
namespace {

// Processes of one agent whose locks are looked at, those with several threads first come.
constexpr size_t kDeadlockProcessesMax = 32;

struct Reading {
  ProgressSample progress;
  std::optional<DeadlockSample> deadlock;
};

// Everything about one agent that is read from /proc; used by one thread at a time.
class AgentReader {
 public:
  AgentReader(const ProgressOptions& options, pid_t pid)
      : proc_root_(options.proc_root),
        pid_(pid),
        processes_(options.proc_root, options.cgroup_root) {}

  void read(Reading& reading, bool detailed, bool locks) {
    processes_.read(pid_, detailed, reading.progress);
    if (!locks) return;
    for (size_t i = 0; i < processes_.processes().size() && i < kDeadlockProcessesMax; ++i) {
      DeadlockSample sample = read_deadlock(proc_root_, processes_.processes()[i]);
      const bool found = !sample.cycle.empty();
      // Without a cycle the agent's own process speaks.
      if (found || i == 0) reading.deadlock = std::move(sample);
      if (found) return;
    }
  }

 private:
  const std::string proc_root_;
  const pid_t pid_;
  ProcessReader processes_;
};

}  // namespace

class ProgressSampler::Impl {
 public:
  Impl(Loop& loop, ProgressOptions options, InFlightSource in_flight, Sink sink)
      : loop_(loop),
        options_(std::move(options)),
        in_flight_(std::move(in_flight)),
        sink_(std::make_shared<Sink>(std::move(sink))) {}
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() { *alive_ = false; }

  void start(uint64_t generation, pid_t pid) {
    generation_ = generation;
    reader_ = std::make_shared<AgentReader>(options_, pid);
    reading_ = false;
    schedule();
  }
  void stop() {
    timer_.cancel();
    reader_.reset();
    ++epoch_;
  }
  void set_suspicious(bool suspicious) { suspicious_ = suspicious; }
  void set_options(ProgressOptions options) { options_ = std::move(options); }

 private:
  Duration interval() const { return std::min(options_.sample_interval, options_.hang_window / 4); }
  void schedule() {
    timer_ = loop_.add_timer(interval(), [this] { sample(); });
  }

  void sample() {
    schedule();
    if (reading_) return;  // a slow reading is still under way
    Reading reading;
    const InFlight facts = in_flight_();
    reading.progress.generation = generation_;
    reading.progress.in_flight = facts.count;
    reading.progress.oldest_age = facts.oldest_age;
    reading.progress.oldest_request = facts.oldest_request;
    reading.progress.requests_started = facts.requests_started;
    reading.progress.bytes_from_agent = facts.bytes_from_agent;
    const OverloadSample overload{
        .rejected = facts.rejected, .in_flight = facts.count, .in_flight_max = facts.in_flight_max};
    // A request that has just come explains itself; details are for those that stay.
    const bool detailed = facts.oldest_age >= interval() / 2 || suspicious_;
    if (slow_) {
      read_on_worker(std::move(reading), overload, detailed);
      return;
    }
    const MonotonicTime began = loop_.clock().now();
    reader_->read(reading, detailed, detailed && options_.deadlock);
    const Duration took = loop_.clock().now() - began;
    slow_ = took > std::chrono::microseconds(reading_budget_us_max);
    deliver(std::move(reading), overload);
  }

  void read_on_worker(Reading reading, const OverloadSample& overload, bool detailed) {
    reading_ = true;
    if (worker_ == nullptr) worker_ = std::make_unique<WorkerThread>();
    worker_->submit([this, loop = &loop_, alive = alive_, epoch = epoch_, reader = reader_,
                     reading = std::move(reading), overload, detailed,
                     locks = detailed && options_.deadlock]() mutable {
      reader->read(reading, detailed, locks);
      loop->post_from_any_thread(
          [this, alive, epoch, reading = std::move(reading), overload]() mutable {
            if (!*alive || epoch != epoch_) return;
            reading_ = false;
            deliver(std::move(reading), overload);
          });
    });
  }

  void deliver(Reading reading, const OverloadSample& overload) {
    // The sink may stop or destroy this sampler between any two observations.
    const std::shared_ptr<Sink> sink = sink_;
    const std::shared_ptr<bool> alive = alive_;
    const uint64_t epoch = epoch_;
    const MonotonicTime now = loop_.clock().now();
    // Locks first, so that a proven deadlock is not first called a hang.
    if (reading.deadlock) {
      reading.deadlock->generation = reading.progress.generation;
      (*sink)({.at = now, .what = std::move(*reading.deadlock)});
      if (!*alive || epoch != epoch_) return;
    }
    (*sink)({.at = now, .what = std::move(reading.progress)});
    if (!*alive || epoch != epoch_) return;
    (*sink)({.at = now, .what = overload});
  }

  Loop& loop_;
  ProgressOptions options_;
  InFlightSource in_flight_;
  std::shared_ptr<Sink> sink_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  uint64_t generation_ = 0;
  uint64_t epoch_ = 0;
  bool suspicious_ = false;
  bool slow_ = false;
  bool reading_ = false;
  std::shared_ptr<AgentReader> reader_;
  Subscription timer_;
  // Last: joined first, while what its job uses is still there.
  std::unique_ptr<WorkerThread> worker_;
};

ProgressSampler::ProgressSampler(Loop& loop, ProgressOptions options, InFlightSource in_flight,
                                 Sink sink)
    : impl_(std::make_unique<Impl>(loop, std::move(options), std::move(in_flight),
                                   std::move(sink))) {}
ProgressSampler::~ProgressSampler() = default;
void ProgressSampler::start(uint64_t generation, pid_t pid) {
  impl_->stop();
  impl_->start(generation, pid);
}
void ProgressSampler::stop() { impl_->stop(); }
void ProgressSampler::set_suspicious(bool suspicious) { impl_->set_suspicious(suspicious); }
void ProgressSampler::set_options(ProgressOptions options) {
  impl_->set_options(std::move(options));
}

}  // namespace remora
