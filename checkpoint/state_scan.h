// Walking an agent's state directory. The tree may change while it is walked: what vanishes on the
// way is left out, and no symbolic link is ever followed.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "checkpoint/file_system.h"
#include "checkpoint/manifest.h"

namespace remora::checkpoint {

// Names that begin with this belong to restores (copies set aside, unfinished ones) and are no part
// of the state.
inline constexpr std::string_view own_name_prefix = ".remora-";

struct ScannedFile {
  std::string path;  // relative; empty: the root
  FileStat stat;
  ChangeToken token{};  // regular files only
  // The latest time stamp that went into the token.
  int64_t changed_ns = 0;
};

struct ScanOptions {
  // Shell patterns (fnmatch). Without '/': matches a name at any depth. With '/': matches the whole
  // relative path, where * also matches '/'. What is below a matching directory is left out too.
  std::vector<std::string> exclude;
  // A directory (by device and inode) that is left out: the store, when it is inside the state.
  uint64_t exclude_device = 0;
  uint64_t exclude_inode = 0;
};

struct StateScan {
  std::vector<ScannedFile> files;  // in path order; the root first
  std::unordered_map<std::string, size_t> by_path;
  bool has_regular_file = false;

  const ScannedFile* find(const std::string& path) const;
};

// kNotFound when the root is missing.
Result<StateScan> scan_state(FileSystem& fs, const std::string& root, const ScanOptions& options);

// Sets token and changed_ns from the stat of the file and of the "-wal" and "-journal" beside it,
// should it be a database.
void set_token(ScannedFile& file, const FileStat* wal, const FileStat* journal);

// The path of the database that this would be a side file of; empty when the name isn't such.
std::string side_file_base(const std::string& path);

}  // namespace remora::checkpoint
