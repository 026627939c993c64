#include "checkpoint/state_check.h"

#include <algorithm>
#include <ranges>
#include <unordered_map>

#include "checkpoint/errors.h"
#include "checkpoint/restore.h"
#include "checkpoint/sqlite_state.h"
#include "checkpoint/state_scan.h"

namespace remora::checkpoint {
namespace {

StateVerdict damage(const std::string& path, const std::string& problem) {
  return {.damaged = true, .problem = path.empty() ? problem : path + ": " + problem};
}

// The files of the newest snapshot that can be read; empty without one.
Result<std::unordered_map<std::string, Entry>> newest_files(Store& store) {
  std::unordered_map<std::string, Entry> files;
  auto reader = store.begin_read();
  if (!reader) return pass_on(reader);
  auto all = store.list();
  if (!all) return pass_on(all);
  for (const SnapshotInfo& snapshot : std::views::reverse(*all)) {
    if (!snapshot.problem.empty()) continue;
    auto entries = read_entries(**reader, snapshot.record);
    if (!entries) continue;
    for (Entry& entry : *entries) {
      if (entry.type != EntryType::kFile) continue;
      std::string path = entry.path;
      files.emplace(std::move(path), std::move(entry));
    }
    break;
  }
  return files;
}

Result<std::string> head_and_tail(ReadableFile& file, uint64_t size, std::string& tail) {
  std::string head(sqlite_header_bytes, '\0');
  auto n = file.read_at(0, head);
  if (!n) return pass_on(n);
  head.resize(*n);
  tail.resize(std::min<uint64_t>(size, tail_check_bytes));
  n = file.read_at(size - tail.size(), tail);
  if (!n) return pass_on(n);
  tail.resize(*n);
  return head;
}

Result<StateVerdict> check_database(const std::string& root, const ScannedFile& file,
                                    const Entry* known) {
  // Unchanged since it was captured, and checked then.
  if (known != nullptr && known->sqlite && known->change_token != ChangeToken{} &&
      known->change_token == file.token) {
    return StateVerdict{};
  }
  auto problem = check_sqlite(join(root, file.path));
  if (problem) return problem->empty() ? StateVerdict{} : damage(file.path, *problem);
  if (problem.error().code == ErrorCode::kTimeout) return StateVerdict{};  // in use
  return pass_on(problem);
}

Result<StateVerdict> check_file(FileSystem& fs, const std::string& root, const ScannedFile& file,
                                const Entry* known) {
  const uint64_t size = file.stat.size;
  if (size == 0) {
    return known != nullptr && known->size > 0 ? damage(file.path, "was cut to nothing")
                                               : StateVerdict{};
  }
  auto opened = fs.open(join(root, file.path));
  if (!opened && opened.error().code == ErrorCode::kNotFound) return StateVerdict{};
  if (!opened) return pass_on(opened);
  std::string tail;
  auto head = head_and_tail(**opened, size, tail);
  if (!head) return pass_on(head);
  opened->reset();  // closed before SQLite opens the file: POSIX locks are per process
  if (is_sqlite_header(*head)) return check_database(root, file, known);
  if (known == nullptr) return StateVerdict{};
  if (known->sqlite) return damage(file.path, "the header of the database is destroyed");
  const bool zeros = tail.find_first_not_of('\0') == std::string::npos;
  if (known->size > 0 && !known->zero_tail && zeros) {
    return damage(file.path, "its end was overwritten with zeros");
  }
  return StateVerdict{};
}

}  // namespace

Result<StateVerdict> check_state(Store& store, const std::string& state_dir,
                                 const std::vector<std::string>& exclude, FileSystem& fs) {
  auto known = newest_files(store);
  if (!known) return pass_on(known);
  auto root = canonical(state_dir);
  ScanOptions options{.exclude = exclude};
  if (auto st = fs.stat(store.location())) {
    options.exclude_device = st->device;
    options.exclude_inode = st->inode;
  }
  auto scan = root ? scan_state(fs, *root, options) : Result<StateScan>(pass_on(root));
  if (!scan && scan.error().code == ErrorCode::kNotFound) {
    return known->empty() ? StateVerdict{} : damage("", "the state directory is gone");
  }
  if (!scan) return pass_on(scan, "state directory");
  auto unfinished = has_unfinished_restore(fs, *root);
  if (!unfinished) return pass_on(unfinished);
  if (*unfinished) return damage("", "a restore was cut short");
  if (!scan->has_regular_file && !known->empty()) {
    return damage("", "the state directory was emptied");
  }
  for (const ScannedFile& file : scan->files) {
    if (file.stat.type != FileType::kRegular) continue;
    const std::string base = side_file_base(file.path);
    const auto owner = known->find(base);
    if (owner != known->end() && owner->second.sqlite) continue;  // judged with its database
    const auto it = known->find(file.path);
    auto verdict = check_file(fs, *root, file, it == known->end() ? nullptr : &it->second);
    if (!verdict || verdict->damaged) return verdict;
  }
  return StateVerdict{};
}

}  // namespace remora::checkpoint
