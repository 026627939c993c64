#include "checkpoint/capture.h"

#include <algorithm>
#include <ranges>

#include "checkpoint/capture_job.h"
#include "checkpoint/sqlite_state.h"

namespace remora::checkpoint {

std::unexpected<Error> damaged_state(const std::string& path, std::string_view problem) {
  return corrupt(path + ": " + std::string(problem) +
                 "; no snapshot was taken, the last good one is kept. Restore it, or take the "
                 "state as it is with --accept-loss");
}

bool same_content(const FileStat& a, const FileStat& b) {
  return a.size == b.size && a.mtime_ns == b.mtime_ns && a.ctime_ns == b.ctime_ns &&
         a.inode == b.inode;
}

bool all_zero(std::string_view bytes) {
  return bytes.find_first_not_of('\0') == std::string_view::npos;
}

Result<CaptureReport> Capture::run(const Epoch& epoch) {
  const MonotonicTime begun = options_.clock->now();
  if (auto done = open(epoch); !done) return pass_on(done);
  auto scan = scan_state(fs_, root_, scan_options_);
  if (!scan && scan.error().code == ErrorCode::kNotFound && !previous_entries_.empty()) {
    return damaged_state(root_, "the state directory is gone");
  }
  if (!scan) return pass_on(scan, "state directory");
  if (auto done = check_not_lost(*scan); !done) return pass_on(done);
  auto changed = read_changed(*scan);
  if (!changed) return pass_on(changed);
  // Nothing changed: the cut of the previous snapshot still holds.
  if (*changed && options_.quiesce != nullptr) {
    scan = read_while_stopped();
    if (!scan) return pass_on(scan);
    if (auto done = check_not_lost(*scan); !done) return pass_on(done);
  }
  if (auto done = publish(*scan); !done) return pass_on(done);
  if (auto space = fs_.space(store_.staging_directory())) {
    report_.store_free_bytes = space->free_bytes;
    report_.low_space = space->free_bytes < space->total_bytes / 10;
  }
  report_.took = options_.clock->now() - begun;
  return std::move(report_);
}

Result<void> Capture::open(const Epoch& epoch) {
  auto root = canonical(options_.state_dir);
  if (!root) return pass_on(root, "state directory");
  root_ = std::move(*root);
  if (root_ == store_.location()) {
    return storage_error(ErrorCode::kInvalidArgument,
                         "the store and the state are the same directory; name another --store");
  }
  scan_options_.exclude = options_.exclude;
  if (auto st = fs_.stat(store_.location())) {
    scan_options_.exclude_device = st->device;
    scan_options_.exclude_inode = st->inode;
  }
  if (auto done = check_space(); !done) return done;
  auto writer = store_.begin_snapshot(epoch);
  if (!writer) return pass_on(writer);
  writer_ = std::move(*writer);
  auto all = store_.list();
  if (!all) return pass_on(all);
  return read_previous(*all);
}

// The newest snapshot that can be read. Its being damaged deeper down is no matter: only chunks
// that the store has are used again.
Result<void> Capture::read_previous(const std::vector<SnapshotInfo>& all) {
  for (const SnapshotInfo& snapshot : std::views::reverse(all)) {
    if (!snapshot.problem.empty()) continue;
    auto entries = read_entries(*writer_, snapshot.record);
    if (!entries) {
      const ErrorCode code = entries.error().code;
      if (code == ErrorCode::kCorrupt || code == ErrorCode::kNotFound) continue;
      return pass_on(entries);
    }
    previous_ = snapshot;
    for (Entry& entry : *entries) {
      std::string path = entry.path;
      previous_entries_.emplace(std::move(path), std::move(entry));
    }
    break;
  }
  return {};
}

Result<void> Capture::check_space() {
  auto space = fs_.space(store_.staging_directory());
  if (!space) return pass_on(space, "snapshot store");
  if (space->free_bytes >= free_bytes_min) return {};
  return storage_error(ErrorCode::kNoSpace,
                       "the volume of store " + store_.location() + " is full (" +
                           std::to_string(space->free_bytes / 1024) +
                           " KiB free): free some space or prune; older snapshots are intact");
}

Result<void> Capture::check_not_lost(const StateScan& scan) {
  if (options_.accept_loss || scan.has_regular_file) return {};
  for (const auto& [path, entry] : previous_entries_) {
    if (entry.type == EntryType::kFile)
      return damaged_state(root_, "the state directory was emptied");
  }
  return {};
}

const Entry* Capture::reusable(const ScannedFile& file) const {
  for (const auto* known : {&entries_, &previous_entries_}) {
    const auto it = known->find(file.path);
    if (it == known->end() || it->second.type != EntryType::kFile) continue;
    if (it->second.change_token == ChangeToken{} || it->second.change_token != file.token) continue;
    // A chunk that was found missing or damaged is stored anew, which heals older snapshots too.
    const bool whole = std::ranges::all_of(
        it->second.chunks, [this](const ChunkRef& chunk) { return writer_->has_chunk(chunk.id); });
    if (whole) return &it->second;
  }
  return nullptr;
}

// Decided after all other files have been looked at: the database must be known as one.
bool Capture::is_side_file(const ScannedFile& file) const {
  const std::string base = side_file_base(file.path);
  if (base.empty()) return false;
  const auto now = entries_.find(base);
  if (now != entries_.end()) return now->second.sqlite;
  return late_databases_.contains(base);
}

Entry Capture::new_entry(const ScannedFile& file) const {
  Entry entry;
  entry.path = file.path;
  entry.mode = file.stat.mode;
  entry.uid = file.stat.uid;
  entry.gid = file.stat.gid;
  entry.mtime_ns = file.stat.mtime_ns;
  return entry;
}

Result<bool> Capture::read_changed(const StateScan& scan) {
  bool changed = false;
  for (const bool side_files : {false, true}) {
    for (const ScannedFile& file : scan.files) {
      if (file.stat.type != FileType::kRegular) continue;
      const std::string base = side_file_base(file.path);
      if ((!base.empty() && scan.find(base) != nullptr) != side_files) continue;
      if (side_files && is_side_file(file)) continue;
      if (cancelled()) return storage_error(ErrorCode::kCancelled, "snapshot cancelled", true);
      if (const Entry* known = reusable(file)) {
        entries_[file.path] = *known;
        continue;
      }
      changed = true;
      if (auto done = read_file(file); !done) return pass_on(done);
    }
  }
  // Names that came or went count as well.
  const auto in_snapshot = std::ranges::count_if(scan.files, [this](const ScannedFile& file) {
    return file.stat.type != FileType::kRegular || !is_side_file(file);
  });
  return changed || previous_entries_.size() != static_cast<size_t>(in_snapshot);
}

// Reads a file until it stands still, at most read_tries_max times.
Result<void> Capture::read_file(const ScannedFile& file) {
  ++report_.files_read;
  Entry entry;
  for (int tries = 1;; ++tries) {
    entry = new_entry(file);
    auto stable = read_content(file, entry);
    if (!stable) {
      if (stable.error().code == ErrorCode::kNotFound) return {};  // gone: not in this snapshot
      return pass_on(stable);
    }
    if (*stable) break;
    if (tries == read_tries_max) {
      entry.unstable = true;
      entry.change_token = {};
      break;
    }
  }
  entries_[file.path] = std::move(entry);
  return {};
}

// True when the file did not change meanwhile.
Result<bool> Capture::read_content(const ScannedFile& file, Entry& entry) {
  auto opened = fs_.open(join(root_, file.path));
  if (!opened) return pass_on(opened);
  auto before = (*opened)->stat();
  if (!before) return pass_on(before);
  if (before->type != FileType::kRegular) {
    return storage_error(ErrorCode::kNotFound, file.path + " is no longer a file");
  }
  std::string head(sqlite_header_bytes, '\0');
  auto n = (*opened)->read_at(0, head);
  if (!n) return pass_on(n);
  const auto previous = previous_entries_.find(file.path);
  const bool was_sqlite = previous != previous_entries_.end() && previous->second.sqlite;
  entry.change_token = file.token;
  if (file.changed_ns + racy_window.count() >= to_unix_ns(options_.clock->wall_now())) {
    entry.change_token = {};
  }
  if (is_sqlite_header(head)) {
    // The token is from before the copy: whatever is written from here on shows as a change.
    auto done = store_sqlite(entry);
    if (done) return true;
    if (done.error().code != ErrorCode::kCorrupt || !options_.accept_loss) return pass_on(done);
    entry.sqlite = false;  // taken byte by byte, with its side files
  }
  if (was_sqlite && !options_.accept_loss) {
    return damaged_state(file.path, "was a SQLite database and is none now");
  }
  if (auto done = store_content(**opened, before->size, entry); !done) return pass_on(done);
  auto after = (*opened)->stat();
  if (!after) return pass_on(after);
  entry.mtime_ns = before->mtime_ns;
  return entry.size == before->size && same_content(*before, *after) &&
         same_content(*before, file.stat);
}

Result<void> Capture::store_content(ReadableFile& file, uint64_t size, Entry& entry) {
  entry.chunks.clear();
  entry.size = 0;
  chunker_.reset();
  std::string tail;
  uint64_t read = 0;
  bool at_end = size == 0;
  while (true) {
    if (cancelled()) return storage_error(ErrorCode::kCancelled, "snapshot cancelled", true);
    if (!at_end) {
      std::span<char> space = chunker_.space();
      space = space.first(std::min<uint64_t>(space.size(), size - read));
      auto n = file.read_at(read, space);
      if (!n) return pass_on(n);
      tail.append(space.data(), *n);
      if (tail.size() > tail_check_bytes) tail.erase(0, tail.size() - tail_check_bytes);
      chunker_.added(*n);
      read += *n;
      at_end = read == size || *n < space.size();
    }
    for (std::string_view chunk = chunker_.next(at_end); !chunk.empty();
         chunk = chunker_.next(at_end)) {
      const ChunkRef ref{.id = sha256(chunk), .bytes = static_cast<uint32_t>(chunk.size())};
      if (auto added = writer_->add_chunk(ref.id, chunk); !added) return pass_on(added);
      entry.chunks.push_back(ref);
      entry.size += chunk.size();
    }
    if (at_end) break;
  }
  entry.zero_tail = !tail.empty() && all_zero(tail);
  report_.bytes_read += entry.size;
  return {};
}

Result<void> Capture::store_sqlite(Entry& entry) {
  auto copy = staging_path();
  if (!copy) return pass_on(copy);
  const std::string source = join(root_, entry.path);
  auto st = fs_.stat(source);
  auto space = fs_.space(staging_);
  if (!space) return pass_on(space);
  if (st && space->free_bytes < st->size + free_bytes_min) {
    return storage_error(ErrorCode::kNoSpace,
                         entry.path + ": its copy needs " + std::to_string(st->size / 1024) +
                             " KiB on the store's volume; free some space or prune");
  }
  if (auto done = backup_sqlite(source, *copy); !done) {
    if (done.error().code == ErrorCode::kCorrupt)
      return damaged_state(entry.path, done.error().message);
    return pass_on(done);
  }
  auto problem = check_sqlite(*copy);
  if (!problem) return pass_on(problem);
  if (!problem->empty()) return damaged_state(entry.path, *problem);
  auto file = fs_.open(*copy);
  if (!file) return pass_on(file);
  auto copy_stat = (*file)->stat();
  if (!copy_stat) return pass_on(copy_stat);
  entry.sqlite = true;
  if (auto done = store_content(**file, copy_stat->size, entry); !done) return done;
  entry.zero_tail = false;
  for (const std::string_view suffix : sqlite_side_files) {
    best_effort(fs_.remove_file(*copy + std::string(suffix)));
  }
  return fs_.remove_file(*copy);
}

Result<void> Capture::store_bytes(std::string_view bytes, std::vector<ChunkRef>& chunks) {
  while (!bytes.empty()) {
    const std::string_view chunk = bytes.substr(0, next_cut(bytes));
    bytes.remove_prefix(chunk.size());
    const ChunkRef ref{.id = sha256(chunk), .bytes = static_cast<uint32_t>(chunk.size())};
    if (auto added = writer_->add_chunk(ref.id, chunk); !added) return pass_on(added);
    chunks.push_back(ref);
  }
  return {};
}

Result<std::string> Capture::staging_path() {
  if (staging_.empty()) {
    std::string path = join(store_.staging_directory(), "capture-" + random_name());
    if (auto made = fs_.make_directory(path, 0700); !made) return pass_on(made);
    staging_ = std::move(path);
  }
  return join(staging_, random_name());
}

Result<CaptureReport> take_snapshot(Store& store, const Epoch& epoch,
                                    const CaptureOptions& options) {
  auto report = Capture(store, options).run(epoch);
  if (!report && report.error().code == ErrorCode::kNoSpace) {
    return pass_on(report,
                   "no space for a snapshot; older ones are intact, free some space or "
                   "prune");
  }
  return report;
}

}  // namespace remora::checkpoint
