// The seam to where snapshots are kept. LocalStore (local_store.h) keeps them in a directory,
// MemoryStore (memory_store.h) in memory for tests; tests/unit/checkpoint/store_contract_test.cc is
// the contract that both obey.
//
// Promises of every implementation
// - A snapshot that list() shows was published whole: all its chunks were durable before it
//   appeared. A failed or abandoned writer leaves nothing visible.
// - prune() never removes what a published snapshot that is kept needs, nor what a writer that
//   is open (in any process) has stored or counts on.
// - Only the newest epoch may publish (see claim_epoch()): a snapshot of an earlier one was
//   published before the claim returned, and its owner can see it, or never is.
// - read_chunk() returns bytes that hash to the id, or an error; never anything else.
//
// Threads: one thread at a time for a store and what it handed out. Handles must die before it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/manifest.h"
#include "sidecar/base/error.h"

namespace remora::checkpoint {

// The right to publish. The token tells apart two claims of the same number, should the store's
// record of it ever be lost and begun anew.
struct Epoch {
  uint64_t number = 0;  // 0: nobody has claimed yet, or the claim was refused
  std::string token;    // 32 hex digits; empty with number 0
  bool operator==(const Epoch&) const = default;
};

struct SnapshotInfo {
  std::string id;
  SnapshotRecord record;  // only sequence is set when problem isn't empty
  std::string problem;    // why the record can't be read; empty when it can
};

struct PruneOptions {
  uint64_t keep_last = 10;  // at least 1; the newest intact snapshot is always kept besides
  // Of whoever prunes; kPermission when it is no longer the newest. Absent: a person prunes.
  std::optional<Epoch> epoch{};
};

// Letters, digits, '.', '_' and '-'.
inline constexpr size_t owner_bytes_max = 64;
bool is_owner(std::string_view text);

// Those who had a store, oldest first, each once.
using Owners = std::vector<std::string>;
inline constexpr size_t owners_max = 48;
// Makes owner the last one. False, and nothing is changed: another one came after it.
bool take_over(Owners& owners, std::string_view owner);

struct PruneReport {
  std::vector<std::string> removed_snapshots;
  std::vector<std::string> kept_snapshots;
  uint64_t removed_chunks = 0;
  uint64_t freed_bytes = 0;   // of chunk storage
  uint64_t stored_bytes = 0;  // what chunk storage takes now
};

// Reads chunks. While it lives nothing is pruned.
class ChunkReader {
 public:
  virtual ~ChunkReader() = default;
  virtual bool has_chunk(const ChunkId& id) const = 0;
  // kNotFound when the chunk is gone, kCorrupt when it fails its hash, kIo when reading fails.
  virtual Result<void> read_chunk(const ChunkId& id, std::string& plain) = 0;
};

// One snapshot being written. Destroyed unpublished: nothing of it stays.
class SnapshotWriter : public ChunkReader {
 public:
  // plain: 1 to chunk_bytes_max bytes that hash to id. True when it was stored now, false when the
  // store had it. kNoSpace leaves the writer useless and the store as it was.
  virtual Result<bool> add_chunk(const ChunkId& id, std::string_view plain) = 0;
  // Bytes that the added chunks take in the store.
  virtual uint64_t added_bytes() const = 0;
  // Makes everything durable, then the snapshot visible, in that order; gives it its sequence and
  // epoch. kPermission when the writer's epoch is no longer the newest. At most once.
  virtual Result<SnapshotInfo> publish(SnapshotRecord record) = 0;
};

class Store {
 public:
  virtual ~Store() = default;

  // Takes over: from now on, publishing with any other epoch is refused. owner: who claims, such as
  // the UID of a pod; empty: nobody in particular. One from whom another owner took the store over
  // gets it back no more: its claim changes nothing and has the number 0.
  virtual Result<Epoch> claim_epoch(std::string_view owner) = 0;
  // For a helper of whoever writes now (the command line), which must not fence it.
  virtual Result<Epoch> current_epoch() = 0;

  // kUnavailable (retryable) while it is being pruned by somebody else for too long; kPermission
  // when epoch is no longer the newest.
  virtual Result<std::unique_ptr<SnapshotWriter>> begin_snapshot(const Epoch& epoch) = 0;
  virtual Result<std::unique_ptr<ChunkReader>> begin_read() = 0;

  // Oldest first. Snapshots with a damaged record are listed, with their problem.
  virtual Result<std::vector<SnapshotInfo>> list() = 0;

  // Removes old snapshots and then the chunks that nobody needs. kUnavailable (retryable) while
  // others read or write; nothing is removed then.
  virtual Result<PruneReport> prune(const PruneOptions& options) = 0;

  // A directory on the same volume for files that a capture stages; swept of leftovers.
  virtual std::string staging_directory() const = 0;
  // Where the store is, for messages and to leave it out of what is captured.
  virtual std::string location() const = 0;
};

// Finds a snapshot by "latest", its id, or a prefix that names only one. kNotFound says what to do.
Result<SnapshotInfo> find_snapshot(Store& store, std::string_view name);

// The entries of a snapshot, read and checked.
Result<std::vector<Entry>> read_entries(ChunkReader& reader, const SnapshotRecord& record);

}  // namespace remora::checkpoint
