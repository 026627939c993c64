// Snapshots of one agent, for the process that runs it: owns the store and a worker thread, on
// which all hashing and file I/O happens, so the loop never waits for a disk.
//
// Threads: every call and every callback on the loop's thread; callbacks are posted, never made
// from inside a call, exactly once each unless the coordinator is destroyed first. The make_quiesce
// function is called on the loop's thread, what it returns on the worker's.
// Jobs run one at a time. A check or a restore cuts a running capture short (it ends with
// kCancelled): healing doesn't wait for a snapshot.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/capture.h"
#include "checkpoint/restore.h"
#include "checkpoint/state_check.h"
#include "checkpoint/store.h"
#include "sidecar/base/worker.h"

namespace remora::checkpoint {

struct TakeResult {
  CaptureReport capture;
  PruneReport pruned;
  // Old snapshots could not be removed (the new one is fine); empty when all went well.
  std::string prune_problem;
};

struct CoordinatorOptions {
  std::string state_dir;
  std::vector<std::string> exclude;
  uint64_t keep_last = 10;
  // Restored files get their recorded owner; only root can.
  bool set_owner = false;
  // Asked before each capture for how to make the agent stand still now; empty functions when
  // none runs. Null: nobody is ever stopped.
  std::function<Quiesce()> make_quiesce;
  // Whose store it is (Store::claim_epoch), and who hears, posted and once, that it is another's
  // now: nothing more is published.
  std::string owner{};
  std::function<void(const Error& why)> on_taken_over{};
  FileSystem* file_system = nullptr;  // null: the real one. Must outlive the coordinator.
  const Clock* clock = nullptr;       // never null; must outlive the coordinator
};

class Coordinator {
 public:
  // Runs a function on the loop's thread, soon; called from the worker's.
  using Post = std::function<void(std::move_only_function<void()>)>;
  template <typename T>
  using Done = std::move_only_function<void(Result<T>)>;

  // Opens (or makes) the store and takes it over from any earlier writer, unless another owner has
  // taken it from this one before: then it only reads. Blocks for a few small
  // file operations: call it before the loop runs.
  static Result<std::unique_ptr<Coordinator>> open(const std::string& store_dir,
                                                   CoordinatorOptions options, Post post);
  // Takes over store, whose epoch must have been claimed by nobody that still writes.
  static Result<std::unique_ptr<Coordinator>> create(std::unique_ptr<Store> store,
                                                     CoordinatorOptions options, Post post);
  ~Coordinator();
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  // A snapshot now, then a prune to keep_last. An unchanged state gives the newest snapshot again
  // (capture.unchanged). Takes asked for while one runs share the one after it.
  void take(std::string reason, Done<TakeResult> done);
  void check_state(Done<StateVerdict> done);
  // The newest intact snapshot; the state is set aside. The agent must not run.
  void restore_latest(Done<RestoreReport> done);
  // The one with this id, or a beginning that only one has; kNotFound says what to do.
  void restore(std::string id, Done<RestoreReport> done);
  // By word of somebody else: as if the store had been found taken over.
  void give_up_store(const std::string& why);
  // Under which it publishes; 0: it doesn't, or no longer.
  uint64_t epoch() const { return lost_ ? 0 : epoch_.number; }
  // What the store holds, oldest first.
  void list(Done<std::vector<SnapshotInfo>> done);

 private:
  struct OpenKey {};

 public:
  Coordinator(OpenKey key, std::unique_ptr<Store> store, Epoch epoch, CoordinatorOptions options,
              Post post);

 private:
  struct Waiting {
    std::string reason;
    std::vector<Done<TakeResult>> done;
  };
  void start_take();
  void take_finished(Result<TakeResult> result);
  void lose(Error why);
  Result<TakeResult> take_now(const std::string& reason, Quiesce quiesce,
                              std::shared_ptr<std::atomic<bool>> cancelled);
  // Runs work on the worker, then done with its result on the loop.
  template <typename T>
  void run(std::move_only_function<Result<T>()> work, Done<T> done);

  std::optional<Error> lost_;  // why nothing is published any more
  bool taken_over_ = false;    // set on the worker before a take's end is posted
  const std::unique_ptr<Store> store_;
  const Epoch epoch_;
  const CoordinatorOptions options_;
  const Post post_;
  // Expires with the coordinator: a posted completion that finds it gone does nothing.
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
  std::vector<Done<TakeResult>> running_;  // not empty: a take is on the worker
  std::shared_ptr<std::atomic<bool>> running_cancelled_;
  Waiting waiting_;
  WorkerThread worker_;  // last: joined before what its jobs use goes
};

}  // namespace remora::checkpoint
