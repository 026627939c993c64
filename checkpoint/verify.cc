#include "checkpoint/verify.h"

#include <algorithm>
#include <set>
#include <unordered_map>

#include "checkpoint/errors.h"

namespace remora::checkpoint {
namespace {

class Verifier {
 public:
  Verifier(ChunkReader& reader, VerifyReport& report) : reader_(reader), report_(report) {}

  void verify(const SnapshotInfo& snapshot) {
    SnapshotVerdict verdict{.snapshot = snapshot, .problems = {}, .problem_count = 0};
    if (!snapshot.problem.empty()) {
      add(verdict, snapshot.problem);
    } else {
      verify_content(verdict);
    }
    report_.snapshots.push_back(std::move(verdict));
  }

  void finish() { report_.damaged_chunks.assign(damaged_.begin(), damaged_.end()); }

 private:
  static void add(SnapshotVerdict& verdict, std::string problem) {
    ++verdict.problem_count;
    if (verdict.problems.size() < verify_problems_max) {
      verdict.problems.push_back(std::move(problem));
    }
  }

  void verify_content(SnapshotVerdict& verdict) {
    bool table_good = true;
    for (const ChunkRef& chunk : verdict.snapshot.record.table) {
      const std::string& problem = check(chunk);
      if (problem.empty()) continue;
      table_good = false;
      add(verdict, "entry table: " + problem);
    }
    if (!table_good) return;
    auto entries = read_entries(reader_, verdict.snapshot.record);
    if (!entries) return add(verdict, entries.error().message);
    for (const Entry& entry : *entries) {
      for (const ChunkRef& chunk : entry.chunks) {
        const std::string& problem = check(chunk);
        if (!problem.empty()) add(verdict, entry.path + ": " + problem);
      }
    }
  }

  // Empty when good. Remembered, so that a chunk is read once.
  const std::string& check(const ChunkRef& chunk) {
    const auto [it, is_new] = outcome_.try_emplace(chunk.id);
    if (!is_new) return it->second;
    auto read = reader_.read_chunk(chunk.id, plain_);
    ++report_.chunks_read;
    if (!read) {
      it->second = read.error().message;
      damaged_.insert(chunk.id.hex());
    } else if (plain_.size() != chunk.bytes) {
      it->second = "chunk " + chunk.id.hex() + " has another length than the snapshot says";
    } else {
      report_.bytes_read += plain_.size();
    }
    return it->second;
  }

  ChunkReader& reader_;
  VerifyReport& report_;
  std::unordered_map<ChunkId, std::string, DigestHash> outcome_;
  std::set<std::string> damaged_;
  std::string plain_;
};

}  // namespace

bool VerifyReport::damaged() const {
  return std::ranges::any_of(snapshots, [](const SnapshotVerdict& v) { return !v.intact(); });
}

Result<VerifyReport> verify_snapshots(Store& store, const std::vector<SnapshotInfo>& snapshots) {
  auto reader = store.begin_read();
  if (!reader) return pass_on(reader);
  VerifyReport report;
  Verifier verifier(**reader, report);
  for (const SnapshotInfo& snapshot : snapshots) verifier.verify(snapshot);
  verifier.finish();
  return report;
}

}  // namespace remora::checkpoint
