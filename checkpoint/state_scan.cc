#include "checkpoint/state_scan.h"

#include <algorithm>

#include <fnmatch.h>

#include "checkpoint/byte_codec.h"
#include "checkpoint/errors.h"
#include "checkpoint/sqlite_state.h"

namespace remora::checkpoint {
namespace {

bool is_excluded(const std::vector<std::string>& patterns, const std::string& path) {
  const std::string name(name_of(path));
  return std::ranges::any_of(patterns, [&](const std::string& pattern) {
    const bool whole_path = pattern.find('/') != std::string::npos;
    return ::fnmatch(pattern.c_str(), whole_path ? path.c_str() : name.c_str(), 0) == 0;
  });
}

// ctime counts for the file itself (a chmod is a change) but not for side files: SQLite under root
// sets their owner each time a database is opened.
void put_side_file(ByteWriter& out, const FileStat* st) {
  out.put(static_cast<uint8_t>(st != nullptr ? 1 : 0));
  if (st == nullptr) return;
  out.put(st->size);
  out.put(st->mtime_ns);
  out.put(st->inode);
}

}  // namespace

const ScannedFile* StateScan::find(const std::string& path) const {
  const auto it = by_path.find(path);
  return it == by_path.end() ? nullptr : &files[it->second];
}

void set_token(ScannedFile& file, const FileStat* wal, const FileStat* journal) {
  ByteWriter out;
  out.put(file.stat.size);
  out.put(file.stat.mtime_ns);
  out.put(file.stat.ctime_ns);
  out.put(file.stat.inode);
  put_side_file(out, wal);
  put_side_file(out, journal);
  const Digest digest = sha256(out.bytes());
  std::copy_n(digest.bytes.begin(), file.token.size(), file.token.begin());
  file.changed_ns = std::max(file.stat.mtime_ns, file.stat.ctime_ns);
  if (wal != nullptr) file.changed_ns = std::max(file.changed_ns, wal->mtime_ns);
  if (journal != nullptr) file.changed_ns = std::max(file.changed_ns, journal->mtime_ns);
}

std::string side_file_base(const std::string& path) {
  for (const std::string_view suffix : sqlite_side_files) {
    if (path.size() > suffix.size() && path.ends_with(suffix)) {
      return path.substr(0, path.size() - suffix.size());
    }
  }
  return {};
}

Result<StateScan> scan_state(FileSystem& fs, const std::string& root, const ScanOptions& options) {
  StateScan scan;
  auto root_stat = fs.stat(root);
  if (!root_stat) return pass_on(root_stat);
  if (root_stat->type != FileType::kDirectory) {
    return storage_error(ErrorCode::kInvalidArgument, root + " is not a directory");
  }
  scan.files.push_back({.path = "", .stat = *root_stat});
  std::vector<std::string> pending{""};
  while (!pending.empty()) {
    const std::string directory = std::move(pending.back());
    pending.pop_back();
    auto entries = fs.list(join(root, directory));
    if (!entries) {
      if (!directory.empty() && entries.error().code == ErrorCode::kNotFound) continue;
      return pass_on(entries);
    }
    for (const DirectoryEntry& entry : *entries) {
      std::string path = directory.empty() ? entry.name : directory + "/" + entry.name;
      if (directory.empty() && entry.name.starts_with(own_name_prefix)) continue;
      if (is_excluded(options.exclude, path)) continue;
      if (!is_safe_path(path)) {
        return storage_error(ErrorCode::kLimitExceeded,
                             path.substr(0, 200) + "…: path is too long; exclude it");
      }
      auto st = fs.stat(join(root, path));
      if (!st && st.error().code == ErrorCode::kNotFound) continue;
      if (!st) return pass_on(st);
      if (st->type == FileType::kDirectory) {
        if (st->inode == options.exclude_inode && st->device == options.exclude_device) continue;
        pending.push_back(path);
      }
      scan.has_regular_file = scan.has_regular_file || st->type == FileType::kRegular;
      scan.files.push_back({.path = std::move(path), .stat = *st});
    }
  }
  std::ranges::sort(scan.files, {}, &ScannedFile::path);
  for (size_t i = 0; i < scan.files.size(); ++i) scan.by_path.emplace(scan.files[i].path, i);
  for (ScannedFile& file : scan.files) {
    if (file.stat.type != FileType::kRegular) continue;
    const ScannedFile* wal = scan.find(file.path + "-wal");
    const ScannedFile* journal = scan.find(file.path + "-journal");
    set_token(file, wal != nullptr ? &wal->stat : nullptr,
              journal != nullptr ? &journal->stat : nullptr);
  }
  return scan;
}

}  // namespace remora::checkpoint
