// A snapshot store in memory, with the whole contract of Store: for the tests of whoever uses one.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <unordered_map>

#include "checkpoint/store.h"

namespace remora::checkpoint {

class MemoryStore final : public Store {
 public:
  // staging: an existing directory for what captures stage.
  explicit MemoryStore(std::string staging) : staging_(std::move(staging)) {}

  Result<Epoch> claim_epoch(std::string_view owner) override;
  Result<Epoch> current_epoch() override { return epoch_; }
  Result<std::unique_ptr<SnapshotWriter>> begin_snapshot(const Epoch& epoch) override;
  Result<std::unique_ptr<ChunkReader>> begin_read() override;
  Result<std::vector<SnapshotInfo>> list() override;
  Result<PruneReport> prune(const PruneOptions& options) override;
  std::string staging_directory() const override { return staging_; }
  std::string location() const override { return "memory"; }

  // For tests: makes a stored chunk unreadable (its hash no longer fits).
  void damage_chunk(const ChunkId& id) { chunks_.at(id) += 'x'; }
  size_t chunk_count() const { return chunks_.size(); }

 private:
  class Writer;
  class Reader;
  Result<void> read_chunk(const ChunkId& id, std::string& plain) const;
  Result<bool> is_intact(const SnapshotInfo& info);
  Result<void> check_epoch(const Epoch& epoch) const;

  std::string staging_;
  Epoch epoch_;
  Owners owners_;
  std::map<uint64_t, SnapshotInfo> snapshots_;
  std::unordered_map<ChunkId, std::string, DigestHash> chunks_;
  int users_ = 0;  // live readers and writers
};

}  // namespace remora::checkpoint
