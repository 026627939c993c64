// The agent's snapshots, as the app needs them: on an interval while it serves, on demand, a last
// one at the end, and what healing asks of its state (StateKeeper).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <sys/types.h>

#include "checkpoint/coordinator.h"
#include "config/remora.pb.h"
#include "sidecar/admin/remora_metrics.h"
#include "sidecar/admin/source.h"
#include "sidecar/heal/state_keeper.h"
#include "sidecar/net/loop.h"

namespace remora {

class Snapshots final : public StateKeeper {
 public:
  // Errors: an unwritable or full store, kUnsupportedVersion for one of a newer format.
  static Result<std::unique_ptr<Snapshots>> open(Loop& loop, const config::Config& config,
                                                 AgentMetrics& metrics);

  // The process group that stands still while files are copied; 0: none runs.
  void set_agent(pid_t pgid) { agent_ = pgid; }
  // Snapshots are taken while the agent serves, so that one is never of an agent that is ill.
  void set_serving(bool serving);
  void set_interval(Duration interval) { interval_ = interval; }

  void take(const std::string& reason, AdminDone done);
  // What the store holds, oldest first; done is posted.
  void list(checkpoint::Coordinator::Done<std::vector<checkpoint::SnapshotInfo>> done) {
    coordinator_->list(std::move(done));
  }
  // Another owner's now, or to be: nothing more is published. Told once.
  void on_taken_over(std::function<void(const std::string& why)> told) {
    taken_over_ = std::move(told);
  }
  void give_up_store(const std::string& why) { coordinator_->give_up_store(why); }
  // Under which snapshots are published; 0: none are.
  uint64_t epoch() const { return coordinator_->epoch(); }
  // Called when the store may hold others than before.
  void on_change(std::function<void()> changed) { changed_ = std::move(changed); }
  const AdminSnapshots& status() const { return status_; }

  // StateKeeper
  void check_state(std::move_only_function<void(Result<StateCheck>)> done) override;
  void restore(const std::string& id,
               std::move_only_function<void(Result<RestoredSnapshot>)> done) override;

 private:
  Snapshots(Loop& loop, Duration interval, AgentMetrics& metrics);
  void schedule();
  void lose(const Error& why);
  std::string on_taken(const checkpoint::TakeResult& result);

  Loop& loop_;
  Duration interval_;
  AgentMetrics& metrics_;
  pid_t agent_ = 0;
  bool serving_ = false;
  AdminSnapshots status_;
  std::function<void()> changed_;
  std::function<void(const std::string&)> taken_over_;
  Subscription timer_;
  std::unique_ptr<checkpoint::Coordinator> coordinator_;
};

}  // namespace remora
