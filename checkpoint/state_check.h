// Is the state directory what an agent can start from? Judged against the newest readable snapshot.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/file_system.h"
#include "checkpoint/store.h"

namespace remora::checkpoint {

struct StateVerdict {
  bool damaged = false;
  std::string problem;  // "memory.db: database disk image is malformed"; empty when intact
};

// Damage is: the directory gone, emptied, or left half restored; a SQLite database (by its header,
// or by the snapshot) that fails its check; a file that had content and is empty now, or whose last
// tail_check_bytes became zeros. A file that is missing is no damage: agents delete files.
// Without a snapshot only databases are checked. A database that stays locked counts as intact.
// To be asked while the agent does not run.
Result<StateVerdict> check_state(Store& store, const std::string& state_dir,
                                 const std::vector<std::string>& exclude, FileSystem& fs);

}  // namespace remora::checkpoint
