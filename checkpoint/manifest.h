// What a snapshot says about itself: a small record (one file per snapshot), and the entry table
// (every file, directory and link of the state), which is stored as chunks like any other data, so
// that a snapshot without changes costs only its record. FORMAT.md has the bytes.
//
// Decoders take untrusted bytes: they check every bound, never allocate more than the input can
// justify, and a table that decodes is safe to restore (paths stay below the root, parents are
// directories and come first, sizes add up).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/hash.h"
#include "sidecar/base/error.h"

namespace remora::checkpoint {

inline constexpr uint64_t table_bytes_max = 256 << 20;
inline constexpr uint64_t record_bytes_max = 1 << 20;
inline constexpr size_t path_bytes_max = 4095;
inline constexpr size_t name_bytes_max = 255;
inline constexpr size_t reason_bytes_max = 256;
inline constexpr uint64_t file_bytes_max = uint64_t{1} << 42;  // 4 TiB

struct ChunkRef {
  ChunkId id;
  uint32_t bytes = 0;  // plain length, 1 to chunk_bytes_max
  bool operator==(const ChunkRef&) const = default;
};

enum class EntryType : uint8_t { kDirectory = 1, kFile = 2, kSymlink = 3, kSkipped = 4 };

// From the file's stat when it was read; equal tokens mean "not changed since". All zero: unknown,
// read it again (it changed within the clock's granularity of being read).
using ChangeToken = std::array<uint8_t, 16>;

struct Entry {
  std::string path;  // relative, '/'-separated; empty: the state directory itself
  EntryType type = EntryType::kFile;
  uint32_t mode = 0;  // permission bits; set-id bits are never restored
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t mtime_ns = 0;
  // A SQLite database, stored as a consistent backup without its -wal and -shm.
  bool sqlite = false;
  // The last tail_check_bytes of the content are zeros.
  bool zero_tail = false;
  // Kept changing while it was read: its content may be from more than one moment.
  bool unstable = false;
  uint64_t size = 0;  // bytes of content; files only
  ChangeToken change_token{};
  std::string text;  // link target; or why it was skipped ("socket")
  std::vector<ChunkRef> chunks;

  bool operator==(const Entry&) const = default;
};

inline constexpr uint64_t tail_check_bytes = 4096;

struct SnapshotRecord {
  uint64_t sequence = 0;  // given by the store on publishing; higher is newer
  uint64_t epoch = 0;     // of the writer
  int64_t taken_at_unix_ns = 0;
  std::string reason;      // "interval", "manual", …
  std::string state_path;  // where it was taken; for people
  uint64_t entry_count = 0;
  uint64_t file_count = 0;
  uint64_t content_bytes = 0;  // sum of file sizes
  uint64_t added_bytes = 0;    // what this snapshot added to the store
  uint64_t stopped_ns = 0;     // for how long the agent stood still
  bool quiesced = false;       // the agent stood still while files were read
  std::vector<ChunkRef> table;
};

// Entries must be in path order (byte-wise). Deterministic: equal entries, equal bytes.
std::string encode_table(const std::vector<Entry>& entries);
Result<std::vector<Entry>> decode_table(std::string_view bytes);

std::string encode_record(const SnapshotRecord& record);
Result<SnapshotRecord> decode_record(std::string_view bytes);

// "00000042-3f2a9c1d": the sequence and the first 8 hex digits of the record's SHA-256.
std::string snapshot_id(uint64_t sequence, std::string_view record_bytes);
// The sequence in such an id; 0 when it isn't one.
uint64_t sequence_of(std::string_view id);

// True for a relative path that stays below its root: no empty, "." or ".." component, no NUL, no
// leading or trailing slash, lengths within the limits.
bool is_safe_path(std::string_view path);

}  // namespace remora::checkpoint
