// Putting a snapshot back. The snapshot is written whole into a directory of its own, made durable,
// and only then swapped in; what was there before is set aside next to it, never deleted:
//   /data/state                                  the state
//   /data/state.remora-damaged-20261125T043517Z  what it was before (inside the state directory as
//                                                .remora-damaged-… when that is a mount point)
// The newest set_aside_keep_max such copies are kept. Whoever uses the state must not run
// meanwhile.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/file_system.h"
#include "checkpoint/store.h"
#include "sidecar/base/clock.h"

namespace remora::checkpoint {

inline constexpr size_t set_aside_keep_max = 3;
// Free space that a restore leaves on the volume.
inline constexpr uint64_t restore_reserve_bytes = 1 << 20;

struct RestoreOptions {
  std::string state_dir;
  FileSystem* file_system = nullptr;  // null: the real one
  const Clock* clock = nullptr;       // never null
  // Give files their recorded owner; only root can.
  bool set_owner = false;
  // kAlreadyExists when the directory has anything in it.
  bool only_into_empty = false;
};

struct RestoreReport {
  SnapshotInfo snapshot;
  uint64_t files = 0;
  uint64_t bytes = 0;
  std::string set_aside;                 // where the former state went; empty when there was none
  bool in_place = false;                 // contents swapped: not one atomic step
  std::vector<std::string> passed_over;  // newer snapshots that were damaged: "id: problem"
  Duration took{0};
};

// On an error the state directory is what it was (or, should only the very last flush have failed,
// the restored one). In a mount point an error during the swap leaves a mixture that
// has_unfinished_restore() tells; restoring again mends it. kCorrupt or kNotFound: the snapshot is
// damaged.
Result<RestoreReport> restore_snapshot(Store& store, const SnapshotInfo& snapshot,
                                       const RestoreOptions& options);
// The newest snapshot that proves intact. kNotFound when there is none.
Result<RestoreReport> restore_latest(Store& store, const RestoreOptions& options);

// A restore in a mount point was cut short: the directory holds parts of two states.
Result<bool> has_unfinished_restore(FileSystem& fs, const std::string& state_dir);

// "20261125T043517Z", for names and lists.
std::string utc_text(int64_t unix_ns);

}  // namespace remora::checkpoint
