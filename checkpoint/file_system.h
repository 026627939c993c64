// The edge to the file system. Everything that the snapshot store and the restore do to disks goes
// through it, so that tests can fail any single step, drop unsynced data, or run out of space.
//
// Paths are absolute and canonical (see canonical()). No component of a path may be a symbolic
// link: implementations refuse with kPermission instead of following one, so that neither a hostile
// store nor an agent that swaps directories under us can lead a read or a write elsewhere.
//
// Threads: an implementation may be used from several threads; a file handle from one at a time.
// Failures: every call returns its errno as an Error (ErrorSource::kStorage); nothing is retried
// except EINTR and short transfers.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include "sidecar/base/clock.h"
#include "sidecar/base/error.h"

namespace remora::checkpoint {

enum class FileType : uint8_t { kRegular, kDirectory, kSymlink, kSocket, kFifo, kDevice };

struct FileStat {
  FileType type = FileType::kRegular;
  uint32_t mode = 0;  // permission bits, 07777
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t size = 0;  // bytes
  int64_t mtime_ns = 0;
  int64_t ctime_ns = 0;
  uint64_t inode = 0;
  uint64_t device = 0;
  bool mount_root = false;  // something is mounted here: it can't be renamed
};

struct DirectoryEntry {
  std::string name;
};

struct SpaceInfo {
  uint64_t free_bytes = 0;   // to this user
  uint64_t total_bytes = 0;  // of the volume
};

class ReadableFile {
 public:
  virtual ~ReadableFile() = default;
  // Up to out.size() bytes from offset; fewer only at the end of the file.
  virtual Result<size_t> read_at(uint64_t offset, std::span<char> out) = 0;
  virtual Result<FileStat> stat() = 0;
};

class WritableFile {
 public:
  virtual ~WritableFile() = default;  // closes; without sync() nothing is promised
  virtual Result<void> write(std::string_view bytes) = 0;
  // Leaves a hole of that many zero bytes.
  virtual Result<void> skip(uint64_t bytes) = 0;
  // Sets the length to what was written and skipped (a hole at the end needs it), then fsync. The
  // kernel reports a lost write once: after an error the file must be given up, never synced again.
  virtual Result<void> sync() = 0;
  // As sync() without the fsync: for trees that one sync_volume() makes durable.
  virtual Result<void> finish() = 0;
  virtual uint64_t size() const = 0;
};

// Held until destroyed; the kernel drops it when the process dies, so it can't become stale.
class FileLock {
 public:
  virtual ~FileLock() = default;
};
enum class LockKind : uint8_t { kShared, kExclusive };

struct OwnerAndTimes {
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  bool set_owner = false;
  int64_t mtime_ns = 0;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual Result<std::unique_ptr<ReadableFile>> open(const std::string& path) = 0;
  // Makes a new file; kAlreadyExists if there is one.
  virtual Result<std::unique_ptr<WritableFile>> create(const std::string& path, uint32_t mode) = 0;
  virtual Result<void> make_directory(const std::string& path, uint32_t mode) = 0;
  virtual Result<void> make_symlink(const std::string& target, const std::string& path) = 0;
  // Replaces an existing file at the target, as rename(2).
  virtual Result<void> rename(const std::string& from, const std::string& to) = 0;
  // Swaps two existing names in one atomic step. kUnavailable where the file system can't.
  virtual Result<void> exchange(const std::string& a, const std::string& b) = 0;
  virtual Result<void> remove_file(const std::string& path) = 0;
  virtual Result<void> remove_directory(const std::string& path) = 0;
  // Makes creations, renames and removals in this directory durable.
  virtual Result<void> sync_directory(const std::string& path) = 0;
  // Makes everything on the volume that holds path durable (syncfs).
  virtual Result<void> sync_volume(const std::string& path) = 0;
  // Not through a symbolic link; for a link itself only owner and times are set.
  virtual Result<void> set_metadata(const std::string& path, const OwnerAndTimes& what) = 0;

  // Of the link itself, when path names one.
  virtual Result<FileStat> stat(const std::string& path) = 0;
  // Without . and .., sorted by name bytes. At most directory_entries_max, else kLimitExceeded.
  virtual Result<std::vector<DirectoryEntry>> list(const std::string& path) = 0;
  virtual Result<std::string> read_link(const std::string& path) = 0;
  virtual Result<SpaceInfo> space(const std::string& path) = 0;

  // Opens or makes the lock file, then waits up to wait_max for the lock; kUnavailable
  // (retryable) when somebody else still holds it.
  virtual Result<std::unique_ptr<FileLock>> lock(const std::string& path, LockKind kind,
                                                 Duration wait_max) = 0;
};

inline constexpr size_t directory_entries_max = 4'000'000;

// The kernel's own. Shared, stateless, lives for ever.
FileSystem& real_file_system();

// The path with every symbolic link resolved; its last component need not exist. Call it once on
// each root that the user names.
Result<std::string> canonical(std::string_view path);

std::string join(std::string_view directory, std::string_view name);
std::string_view parent_of(std::string_view path);  // "/a/b" -> "/a"; "/a" -> "/"
std::string_view name_of(std::string_view path);    // "/a/b" -> "b"

// Reads a whole small file; kLimitExceeded past bytes_max.
Result<std::string> read_small_file(FileSystem& fs, const std::string& path, size_t bytes_max);
// A new file: create -> write -> check length -> fsync. A failure may leave it behind.
Result<void> write_durably(FileSystem& fs, const std::string& path, std::string_view bytes);
// temp -> write -> check length -> fsync -> rename -> fsync directory. The temp file is removed on
// failure. After an error the target is either the old or the new content, never a mix.
Result<void> write_atomically(FileSystem& fs, const std::string& temp_path, const std::string& path,
                              std::string_view bytes);
// Removes a tree without following links; a path that is not there is a success.
Result<void> remove_tree(FileSystem& fs, const std::string& path);

// 16 hex digits of kernel randomness, for names that must not collide across containers.
std::string random_name();

}  // namespace remora::checkpoint
