// Reading everything that snapshots need, and saying what is damaged.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/store.h"

namespace remora::checkpoint {

inline constexpr size_t verify_problems_max = 100;  // named per snapshot; more are only counted

struct SnapshotVerdict {
  SnapshotInfo snapshot;
  std::vector<std::string> problems;  // "memory.db: chunk 3f2a… doesn't match its hash"
  uint64_t problem_count = 0;
  bool intact() const { return problem_count == 0; }
};

struct VerifyReport {
  std::vector<SnapshotVerdict> snapshots;   // oldest first
  std::vector<std::string> damaged_chunks;  // hex ids, sorted: damaged or missing
  uint64_t chunks_read = 0;
  uint64_t bytes_read = 0;  // plain
  bool damaged() const;
};

// All snapshots, or the given ones. Each chunk is read once however many share it. An error only
// when verifying itself is impossible.
Result<VerifyReport> verify_snapshots(Store& store, const std::vector<SnapshotInfo>& snapshots);

}  // namespace remora::checkpoint
