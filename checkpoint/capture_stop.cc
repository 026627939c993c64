// The second half of a capture: what is read while the agent stands still, and the publishing.
#include <algorithm>

#include "checkpoint/capture_job.h"
#include "checkpoint/sqlite_state.h"

namespace remora::checkpoint {
namespace {

constexpr size_t copy_piece_bytes = 1 << 20;

}  // namespace

Result<StateScan> Capture::read_while_stopped() {
  // An agent that can't be stopped is captured as it runs: files are still read until stable.
  const bool stopped = options_.quiesce->stop().has_value();
  std::vector<StagedCopy> copies;
  auto scan = scan_state(fs_, root_, scan_options_);
  Result<void> copied;
  if (scan) copied = copy_changed(*scan, copies);
  if (stopped) {
    auto quiet = options_.quiesce->cont();
    if (!quiet) return pass_on(quiet, "continue the agent");
    report_.quiet = *quiet;
    report_.quiesced = quiet->unbroken;
  }
  if (!scan) return pass_on(scan, "state directory");
  if (!copied) return pass_on(copied);
  if (auto done = store_copies(copies); !done) return pass_on(done);
  return scan;
}

Result<void> Capture::copy_changed(const StateScan& scan, std::vector<StagedCopy>& copies) {
  for (const bool side_files : {false, true}) {
    for (const ScannedFile& file : scan.files) {
      if (file.stat.type != FileType::kRegular) continue;
      const std::string base = side_file_base(file.path);
      if ((!base.empty() && scan.find(base) != nullptr) != side_files) continue;
      if (side_files && is_side_file(file)) continue;
      const auto read = entries_.find(file.path);
      // A database read a moment ago is consistent; its owner may well be at it again.
      if (read != entries_.end() && read->second.sqlite) continue;
      if (const Entry* known = reusable(file)) {
        entries_[file.path] = *known;
        continue;
      }
      StagedCopy copy{.entry = new_entry(file), .memory = {}, .path = {}};
      auto kept = copy_aside(file, copy);
      if (!kept) return pass_on(kept);
      if (*kept) copies.push_back(std::move(copy));
    }
  }
  return {};
}

// False when it vanished, or is a new database (which is read after the stop).
Result<bool> Capture::copy_aside(const ScannedFile& file, StagedCopy& copy) {
  auto opened = fs_.open(join(root_, file.path));
  if (!opened && opened.error().code == ErrorCode::kNotFound) return false;
  if (!opened) return pass_on(opened);
  auto st = (*opened)->stat();
  if (!st) return pass_on(st);
  if (st->type != FileType::kRegular) return false;
  std::string piece(std::min<uint64_t>(copy_piece_bytes, std::max<uint64_t>(st->size, 1)), '\0');
  const bool in_memory = staged_memory_bytes_ + st->size <= staged_memory_bytes_max;
  std::unique_ptr<WritableFile> aside;
  uint64_t at = 0;
  while (at < st->size) {
    auto n = (*opened)->read_at(
        at, std::span(piece).first(std::min<uint64_t>(piece.size(), st->size - at)));
    if (!n) return pass_on(n);
    if (*n == 0) break;
    const std::string_view bytes = std::string_view(piece).substr(0, *n);
    if (at == 0 && is_sqlite_header(bytes)) {
      late_databases_.insert(file.path);
      return false;
    }
    at += *n;
    if (in_memory) {
      copy.memory.append(bytes);
      continue;
    }
    if (!aside) {
      auto path = staging_path();
      if (!path) return pass_on(path);
      copy.path = *path;
      auto created = fs_.create(copy.path, 0600);
      if (!created) return pass_on(created);
      aside = std::move(*created);
    }
    if (auto done = aside->write(bytes); !done) return pass_on(done);
  }
  auto after = (*opened)->stat();
  if (!after) return pass_on(after);
  const auto previous = previous_entries_.find(file.path);
  if (previous != previous_entries_.end() && previous->second.sqlite && !options_.accept_loss) {
    return damaged_state(file.path, "was a SQLite database and is none now");
  }
  staged_memory_bytes_ += copy.memory.size();
  copy.entry.size = at;
  copy.entry.unstable = at != st->size || !same_content(*st, *after);
  // No token: it was written to a moment ago, so the clock can't vouch for it.
  return true;
}

Result<void> Capture::store_copies(std::vector<StagedCopy>& copies) {
  for (StagedCopy& copy : copies) {
    ++report_.files_read;
    Entry& entry = copy.entry;
    if (copy.path.empty()) {
      if (auto done = store_bytes(copy.memory, entry.chunks); !done) return done;
      const std::string_view bytes = copy.memory;
      entry.zero_tail =
          !bytes.empty() &&
          all_zero(bytes.substr(bytes.size() - std::min<size_t>(bytes.size(), tail_check_bytes)));
      report_.bytes_read += bytes.size();
    } else {
      auto file = fs_.open(copy.path);
      if (!file) return pass_on(file);
      if (auto done = store_content(**file, entry.size, entry); !done) return done;
    }
    std::string path = entry.path;
    entries_[std::move(path)] = std::move(entry);
  }
  for (const std::string& path : late_databases_) {
    auto st = fs_.stat(join(root_, path));
    if (!st) continue;  // gone again
    // Without a token: it is new, so the next capture reads it again.
    ScannedFile file;
    file.path = path;
    file.stat = *st;
    if (auto done = read_file(file); !done) return done;
  }
  return {};
}

// ---- Publishing -------------------------------------------------------------------------------

std::vector<Entry> Capture::final_entries(const StateScan& scan) {
  std::vector<Entry> entries;
  for (const ScannedFile& file : scan.files) {
    Entry entry = new_entry(file);
    switch (file.stat.type) {
      case FileType::kRegular: {
        const auto it = entries_.find(file.path);
        if (it == entries_.end() || is_side_file(file)) continue;
        entry = it->second;
        if (entry.unstable) report_.unstable.push_back(entry.path);
        break;
      }
      case FileType::kDirectory:
        entry.type = EntryType::kDirectory;
        break;
      case FileType::kSymlink: {
        auto target = fs_.read_link(join(root_, file.path));
        if (!target || target->empty() || target->size() > path_bytes_max) continue;  // gone
        entry.type = EntryType::kSymlink;
        entry.text = std::move(*target);
        break;
      }
      default:
        entry.type = EntryType::kSkipped;
        entry.text = file.stat.type == FileType::kSocket ? "socket"
                     : file.stat.type == FileType::kFifo ? "fifo"
                                                         : "device";
        report_.skipped.push_back(entry.path + " (" + entry.text + ")");
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

Result<void> Capture::publish(const StateScan& scan) {
  const std::vector<Entry> entries = final_entries(scan);
  SnapshotRecord record;
  for (const Entry& entry : entries) {
    if (entry.type != EntryType::kFile) continue;
    ++record.file_count;
    record.content_bytes += entry.size;
  }
  record.entry_count = entries.size();
  record.taken_at_unix_ns = to_unix_ns(options_.clock->wall_now());
  record.reason = options_.reason;
  record.state_path = root_;
  record.stopped_ns = static_cast<uint64_t>(report_.quiet.stopped.count());
  record.quiesced = report_.quiesced;
  const std::string table = encode_table(entries);
  if (table.size() > table_bytes_max) {
    return storage_error(ErrorCode::kLimitExceeded,
                         "the state has too many files for one snapshot; exclude some");
  }
  if (auto done = store_bytes(table, record.table); !done) return done;
  if (options_.skip_if_unchanged && previous_ && previous_->record.table == record.table) {
    report_.unchanged = true;
    report_.snapshot = *previous_;
    return {};
  }
  if (cancelled()) return storage_error(ErrorCode::kCancelled, "snapshot cancelled", true);
  auto published = writer_->publish(std::move(record));
  if (!published) return pass_on(published);
  report_.snapshot = std::move(*published);
  return {};
}

}  // namespace remora::checkpoint
