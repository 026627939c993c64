#include "checkpoint/memory_store.h"

#include <unordered_set>

#include "checkpoint/chunker.h"
#include "checkpoint/errors.h"
#include "checkpoint/file_system.h"
#include "checkpoint/retention.h"

namespace remora::checkpoint {

class MemoryStore::Reader final : public ChunkReader {
 public:
  explicit Reader(MemoryStore& store) : store_(store) { ++store_.users_; }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() override { --store_.users_; }
  bool has_chunk(const ChunkId& id) const override { return store_.chunks_.contains(id); }
  Result<void> read_chunk(const ChunkId& id, std::string& plain) override {
    return store_.read_chunk(id, plain);
  }

 private:
  MemoryStore& store_;
};

class MemoryStore::Writer final : public SnapshotWriter {
 public:
  Writer(MemoryStore& store, Epoch epoch) : store_(store), epoch_(std::move(epoch)) {
    ++store_.users_;
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  ~Writer() override { --store_.users_; }
  bool has_chunk(const ChunkId& id) const override {
    return store_.chunks_.contains(id) || added_.contains(id);
  }
  Result<void> read_chunk(const ChunkId& id, std::string& plain) override {
    return store_.read_chunk(id, plain);
  }
  Result<bool> add_chunk(const ChunkId& id, std::string_view plain) override {
    if (plain.empty() || plain.size() > chunk_bytes_max) {
      return storage_error(ErrorCode::kInvalidArgument, "chunk length is out of range");
    }
    if (has_chunk(id)) return false;
    added_.emplace(id, plain);
    added_bytes_ += plain.size();
    return true;
  }
  uint64_t added_bytes() const override { return added_bytes_; }
  Result<SnapshotInfo> publish(SnapshotRecord record) override {
    if (auto allowed = store_.check_epoch(epoch_); !allowed) return pass_on(allowed);
    store_.chunks_.merge(added_);
    record.sequence = store_.snapshots_.empty() ? 1 : store_.snapshots_.rbegin()->first + 1;
    record.epoch = epoch_.number;
    record.added_bytes = added_bytes_;
    const uint64_t sequence = record.sequence;
    SnapshotInfo info{.id = snapshot_id(sequence, encode_record(record)),
                      .record = std::move(record),
                      .problem = {}};
    store_.snapshots_.emplace(sequence, info);
    return info;
  }

 private:
  MemoryStore& store_;
  const Epoch epoch_;
  std::unordered_map<ChunkId, std::string, DigestHash> added_;
  uint64_t added_bytes_ = 0;
};

Result<void> MemoryStore::check_epoch(const Epoch& epoch) const {
  return epoch == epoch_ ? Result<void>() : taken_over(location(), epoch_.number, epoch.number);
}

Result<Epoch> MemoryStore::claim_epoch(std::string_view owner) {
  if (!owner.empty() && !take_over(owners_, owner)) return Epoch{};
  epoch_ = {.number = epoch_.number + 1, .token = random_name() + random_name()};
  return epoch_;
}

Result<std::unique_ptr<SnapshotWriter>> MemoryStore::begin_snapshot(const Epoch& epoch) {
  if (auto allowed = check_epoch(epoch); !allowed) return pass_on(allowed);
  return std::make_unique<Writer>(*this, epoch);
}

Result<std::unique_ptr<ChunkReader>> MemoryStore::begin_read() {
  return std::make_unique<Reader>(*this);
}

Result<std::vector<SnapshotInfo>> MemoryStore::list() {
  std::vector<SnapshotInfo> all;
  all.reserve(snapshots_.size());
  for (const auto& [sequence, info] : snapshots_) all.push_back(info);
  return all;
}

Result<void> MemoryStore::read_chunk(const ChunkId& id, std::string& plain) const {
  const auto it = chunks_.find(id);
  if (it == chunks_.end()) {
    return storage_error(ErrorCode::kNotFound, "chunk " + id.hex() + " is missing");
  }
  if (sha256(it->second) != id) return corrupt("chunk " + id.hex() + " doesn't match its hash");
  plain = it->second;
  return {};
}

Result<bool> MemoryStore::is_intact(const SnapshotInfo& info) {
  Reader reader(*this);
  auto entries = read_entries(reader, info.record);
  if (!entries) return false;
  std::string plain;
  for (const Entry& entry : *entries) {
    for (const ChunkRef& chunk : entry.chunks) {
      if (!read_chunk(chunk.id, plain)) return false;
    }
  }
  return true;
}

Result<PruneReport> MemoryStore::prune(const PruneOptions& options) {
  if (options.epoch) {
    if (auto allowed = check_epoch(*options.epoch); !allowed) return pass_on(allowed);
  }
  if (users_ > 0) return storage_error(ErrorCode::kUnavailable, "the store is in use", true);
  auto all = list();
  if (!all) return pass_on(all);
  auto keep = select_kept(*all, options.keep_last,
                          [this](const SnapshotInfo& info) { return is_intact(info); });
  if (!keep) return pass_on(keep);
  PruneReport report;
  std::unordered_set<ChunkId, DigestHash> live;
  Reader reader(*this);
  for (size_t i = 0; i < all->size(); ++i) {
    const SnapshotInfo& info = (*all)[i];
    if (!(*keep)[i]) {
      snapshots_.erase(info.record.sequence);
      report.removed_snapshots.push_back(info.id);
      continue;
    }
    report.kept_snapshots.push_back(info.id);
    for (const ChunkRef& chunk : info.record.table) live.insert(chunk.id);
    auto entries = read_entries(reader, info.record);
    if (!entries) continue;
    for (const Entry& entry : *entries) {
      for (const ChunkRef& chunk : entry.chunks) live.insert(chunk.id);
    }
  }
  report.removed_chunks = std::erase_if(chunks_, [&](const auto& item) {
    if (live.contains(item.first)) return false;
    report.freed_bytes += item.second.size();
    return true;
  });
  for (const auto& [id, plain] : chunks_) report.stored_bytes += plain.size();
  return report;
}

}  // namespace remora::checkpoint
