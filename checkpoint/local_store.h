// The snapshot store in a directory (FORMAT.md describes its files).
//
// Locks: `lock` is held shared by whoever reads chunks or writes a snapshot, and exclusively by
// prune; `epoch.lock` exclusively while an epoch is claimed and while a snapshot is made visible.
// Both are flocks, which die with their owner. That only the newest epoch publishes does not rest
// on them (local_store_epoch.cc): on a volume that several machines share they may hold on one
// only. Nothing under packs/ or snapshots/ is ever changed in place: files appear by rename and
// disappear by unlink, so a reader without a lock sees whole files.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "checkpoint/epoch_file.h"
#include "checkpoint/file_system.h"
#include "checkpoint/pack.h"
#include "checkpoint/store.h"

namespace remora::checkpoint {

inline constexpr uint32_t store_format_version = 1;

enum class OpenMode : uint8_t {
  kExisting,  // kNotFound when there is no store; writes nothing
  kCreate,    // makes the store when the directory is missing or empty
};

struct LocalStoreOptions {
  std::string root;  // any path; made canonical on opening
  OpenMode mode = OpenMode::kExisting;
  FileSystem* file_system = nullptr;  // null: the real one. Must outlive the store.
  Duration lock_wait_max = std::chrono::seconds(30);
};

class LocalStore final : public Store {
  struct OpenKey {};  // only open() makes one

 public:
  LocalStore(OpenKey key, FileSystem& fs, std::string root, Duration lock_wait_max);
  // kUnsupportedVersion for a store of a newer format, which is left as it is.
  static Result<std::unique_ptr<LocalStore>> open(const LocalStoreOptions& options);
  ~LocalStore() override;
  LocalStore(const LocalStore&) = delete;
  LocalStore& operator=(const LocalStore&) = delete;

  Result<Epoch> claim_epoch(std::string_view owner) override;
  Result<Epoch> current_epoch() override;
  Result<std::unique_ptr<SnapshotWriter>> begin_snapshot(const Epoch& epoch) override;
  Result<std::unique_ptr<ChunkReader>> begin_read() override;
  Result<std::vector<SnapshotInfo>> list() override;
  Result<PruneReport> prune(const PruneOptions& options) override;
  std::string staging_directory() const override;
  std::string location() const override { return root_; }

  // Packs whose index had to be rebuilt, with the number of chunks that were found in each.
  std::vector<std::string> salvaged_packs() const;

 private:
  class Reader;
  class Writer;
  struct Pack {
    std::vector<FrameInfo> frames;
    uint64_t file_bytes = 0;
    bool salvaged = false;
  };
  struct Location {
    const std::string* pack = nullptr;  // key in packs_
    FrameInfo frame;
    bool bad = false;  // failed its hash in this process: as if it weren't there
  };

  Result<void> initialise();
  Result<void> check_format();
  Result<std::unique_ptr<FileLock>> take_lock(const char* name, LockKind kind,
                                              std::string_view who_else);

  // local_store_epoch.cc
  Result<EpochFile> read_epoch();
  // kPermission when it is no longer the newest.
  Result<void> check_epoch(const Epoch& epoch);
  // Where a record waits for its check and its rename.
  std::string record_path(const Epoch& epoch) const;
  Result<void> remove_staged(const Epoch& newest);

  // Brings the index in line with packs/. Only with the lock held.
  Result<void> refresh();
  Result<void> load_pack(const std::string& name);
  void forget_pack(const std::string& name);
  bool has_chunk(const ChunkId& id) const;
  Result<void> read_chunk(const ChunkId& id, std::string& plain);
  Result<void> read_stored(const Location& at, std::string& stored);
  std::string temp_path() const;
  // Removes what crashed writers left in tmp/. Only with the exclusive lock held.
  void sweep_staging();

  // local_store_prune.cc; all with the exclusive lock held.
  struct PrunePlan;
  Result<bool> is_intact(const SnapshotInfo& info);
  Result<std::unordered_set<ChunkId, DigestHash>> live_chunks(const std::vector<SnapshotInfo>& all,
                                                              const std::vector<bool>& keep);
  Result<PrunePlan> plan_packs(const std::unordered_set<ChunkId, DigestHash>& live);
  Result<std::vector<std::string>> repack(const PrunePlan& plan);
  Result<void> remove_packs(const std::vector<std::string>& names);
  uint64_t pack_bytes() const;

  FileSystem& fs_;
  const std::string root_;
  const Duration lock_wait_max_;
  std::map<std::string, Pack> packs_;
  std::unordered_multimap<ChunkId, Location, DigestHash> locations_;
  // Read and found right, or written, by this process. Bounded by the number of chunks.
  std::unordered_set<ChunkId, DigestHash> verified_;
  std::map<std::string, std::unique_ptr<ReadableFile>> open_packs_;
  std::string stored_;  // scratch for reads
};

class LocalStore::Reader final : public ChunkReader {
 public:
  Reader(LocalStore& store, std::unique_ptr<FileLock> lock)
      : store_(store), lock_(std::move(lock)) {}
  bool has_chunk(const ChunkId& id) const override { return store_.has_chunk(id); }
  Result<void> read_chunk(const ChunkId& id, std::string& plain) override {
    return store_.read_chunk(id, plain);
  }

 private:
  LocalStore& store_;
  std::unique_ptr<FileLock> lock_;
};

}  // namespace remora::checkpoint
