// Taking a snapshot of an agent's state directory.
//
// Order of the cut: everything that changed is read while the agent works (SQLite through its
// online backup); then the agent is stopped, what changed since is copied aside, and it goes on;
// the copies are hashed and stored after that. An agent whose state did not change is not stopped
// at all. SQLite databases are each consistent in themselves but may be a little older than the
// other files.
//
// A snapshot of a damaged state is never taken (kCorrupt): the older, good ones would be pushed
// out.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/file_system.h"
#include "checkpoint/store.h"
#include "sidecar/base/clock.h"

namespace remora::checkpoint {

struct QuietPeriod {
  Duration stopped{0};
  // It stood still the whole time: nothing continued it early.
  bool unbroken = true;
};

// How to make the agent stand still. Both are called on the capturing thread, each at most once, in
// this order; cont() is always called after a stop() that succeeded.
struct Quiesce {
  std::move_only_function<Result<void>()> stop;
  std::move_only_function<Result<QuietPeriod>()> cont;
};

struct CaptureOptions {
  std::string state_dir;
  std::vector<std::string> exclude;  // see ScanOptions::exclude
  std::string reason = "manual";
  // When nothing changed since the newest snapshot, report that one instead of adding its twin.
  bool skip_if_unchanged = false;
  // Take the state as it is although it was emptied, or a database is no longer one.
  bool accept_loss = false;
  Quiesce* quiesce = nullptr;         // null: nothing to stop
  FileSystem* file_system = nullptr;  // null: the real one
  const Clock* clock = nullptr;       // never null
  // Looked at between pieces of work; true ends the capture with kCancelled.
  std::shared_ptr<std::atomic<bool>> cancelled;
};

struct CaptureReport {
  SnapshotInfo snapshot;
  bool unchanged = false;  // skip_if_unchanged, and it was
  uint64_t files_read = 0;
  uint64_t bytes_read = 0;
  QuietPeriod quiet;
  bool quiesced = false;
  std::vector<std::string> skipped;   // sockets, fifos, devices: "path (socket)"
  std::vector<std::string> unstable;  // files that changed while they were read, to the last try
  Duration took{0};
  uint64_t store_free_bytes = 0;
  bool low_space = false;  // less than a tenth of the store's volume is free
};

// Files that change while they are read are read again, this often at most.
inline constexpr int read_tries_max = 3;
// Copies made during the stop stay in memory up to this sum, then go to the staging directory.
inline constexpr uint64_t staged_memory_bytes_max = 16 << 20;
// A file touched this shortly before it was read may change again without a new time stamp.
inline constexpr Duration racy_window = std::chrono::seconds(1);
// Below this much free space on the store's volume nothing is begun.
inline constexpr uint64_t free_bytes_min = 4 << 20;

Result<CaptureReport> take_snapshot(Store& store, const Epoch& epoch,
                                    const CaptureOptions& options);

}  // namespace remora::checkpoint
