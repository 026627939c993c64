// Which snapshots a prune keeps. Pure: both stores use it.
#pragma once

#include <functional>
#include <vector>

#include "checkpoint/store.h"

namespace remora::checkpoint {

// One flag per snapshot of all (oldest first): the newest keep_last (at least 1) and, should none
// of those be intact, the newest intact one before them. is_intact is asked from the newest on and
// only until it says yes; its errors end the selection.
Result<std::vector<bool>> select_kept(
    const std::vector<SnapshotInfo>& all, uint64_t keep_last,
    const std::function<Result<bool>(const SnapshotInfo&)>& is_intact);

}  // namespace remora::checkpoint
