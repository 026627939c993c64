#include "checkpoint/restore.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <ranges>

#include "checkpoint/errors.h"

namespace remora::checkpoint {
namespace {

constexpr std::string_view damaged_mark = ".remora-damaged-";
constexpr std::string_view restore_mark = ".remora-restore-";
constexpr std::string_view swap_mark = ".remora-swap-";
constexpr std::string_view own_mark = ".remora-";
constexpr uint64_t entry_cost_bytes = 4096;  // a block for each file, directory and link

bool all_zero(std::string_view bytes) {
  return bytes.find_first_not_of('\0') == std::string_view::npos;
}

OwnerAndTimes metadata_of(const Entry& entry, bool set_owner) {
  OwnerAndTimes out;
  // Set-id bits are dropped: a store that somebody tampered with must not make one.
  out.mode = entry.mode & (entry.type == EntryType::kDirectory ? 01777U : 0777U);
  out.uid = entry.uid;
  out.gid = entry.gid;
  out.set_owner = set_owner;
  out.mtime_ns = entry.mtime_ns;
  return out;
}

class Restorer {
 public:
  Restorer(Store& store, const RestoreOptions& options)
      : store_(store),
        options_(options),
        fs_(options.file_system != nullptr ? *options.file_system : real_file_system()) {}

  Result<RestoreReport> run(const SnapshotInfo& snapshot);

 private:
  Result<void> look_at_target();
  Result<void> check_space(const std::string& directory);
  Result<void> restore_beside();
  Result<void> restore_inside();
  // A new directory at path with everything of the snapshot in it, durable.
  Result<void> write_tree(const std::string& path);
  Result<void> write_file(const std::string& path, const Entry& entry);
  Result<void> swap_beside(const std::string& temp);
  Result<void> swap_inside(const std::string& temp);
  Result<void> move_aside_inside();
  Result<void> sweep(const std::string& directory, const std::string& prefix,
                     const std::string& except);
  void drop_old_set_aside(const std::string& directory, const std::string& prefix);
  std::string set_aside_suffix() const;

  Store& store_;
  const RestoreOptions& options_;
  FileSystem& fs_;
  std::unique_ptr<ChunkReader> reader_;
  std::vector<Entry> entries_;
  std::string target_;
  bool exists_ = false;
  bool empty_ = true;
  bool mount_point_ = false;
  RestoreReport report_;
};

Result<RestoreReport> Restorer::run(const SnapshotInfo& snapshot) {
  const MonotonicTime begun = options_.clock->now();
  report_.snapshot = snapshot;
  if (!snapshot.problem.empty())
    return corrupt("snapshot " + snapshot.id + ": " + snapshot.problem);
  auto reader = store_.begin_read();
  if (!reader) return pass_on(reader);
  reader_ = std::move(*reader);
  auto entries = read_entries(*reader_, snapshot.record);
  if (!entries) return pass_on(entries, "snapshot " + snapshot.id);
  entries_ = std::move(*entries);
  if (auto done = look_at_target(); !done) return pass_on(done);
  Result<void> done;
  if (!mount_point_) {
    done = restore_beside();
    // A mount that stat didn't show, or a parent that we may not write to.
    mount_point_ = !done && exists_ &&
                   (done.error().code == ErrorCode::kUnavailable ||
                    done.error().code == ErrorCode::kPermission);
  }
  if (mount_point_) done = restore_inside();
  if (!done) return pass_on(done, "restore snapshot " + snapshot.id);
  report_.took = options_.clock->now() - begun;
  return std::move(report_);
}

Result<void> Restorer::look_at_target() {
  auto target = canonical(options_.state_dir);
  if (!target) return pass_on(target, "state directory");
  target_ = std::move(*target);
  auto st = fs_.stat(target_);
  if (!st && st.error().code == ErrorCode::kNotFound) return {};
  if (!st) return pass_on(st);
  if (st->type != FileType::kDirectory) {
    return storage_error(ErrorCode::kInvalidArgument, target_ + " is not a directory");
  }
  exists_ = true;
  mount_point_ = st->mount_root || target_ == "/";
  auto names = fs_.list(target_);
  if (!names) return pass_on(names);
  empty_ = names->empty();
  if (options_.only_into_empty && !empty_) {
    return storage_error(ErrorCode::kAlreadyExists,
                         target_ + " is not empty; name an empty or new directory");
  }
  return {};
}

Result<void> Restorer::check_space(const std::string& directory) {
  uint64_t needed = restore_reserve_bytes;
  for (const Entry& entry : entries_) needed += entry.size + entry_cost_bytes;
  auto space = fs_.space(directory);
  if (!space) return pass_on(space);
  if (space->free_bytes >= needed) return {};
  return storage_error(ErrorCode::kNoSpace,
                       "needs " + std::to_string(needed / 1024) + " KiB, the volume of " + target_ +
                           " has " + std::to_string(space->free_bytes / 1024) +
                           " KiB free: free some space (copies set aside by earlier restores are "
                           "named *" +
                           std::string(damaged_mark) + "*) and try again");
}

Result<void> Restorer::restore_beside() {
  const std::string parent(parent_of(target_));
  if (auto done = check_space(parent); !done) return done;
  const std::string temp = target_ + std::string(restore_mark) + random_name();
  auto written = sweep(parent, std::string(name_of(target_)) + std::string(restore_mark), "");
  if (written) written = write_tree(temp);
  if (written) written = swap_beside(temp);
  if (!written) {
    best_effort(remove_tree(fs_, temp));  // the first error is the one that matters
    return written;
  }
  drop_old_set_aside(parent, std::string(name_of(target_)) + std::string(damaged_mark));
  return {};
}

Result<void> Restorer::swap_beside(const std::string& temp) {
  const std::string parent(parent_of(target_));
  if (!exists_) {
    if (auto done = fs_.rename(temp, target_); !done) return done;
    return fs_.sync_directory(parent);
  }
  // The new tree goes under the former state's future name first: whatever is under that name is
  // never swept away, and the exchange is the one step that counts.
  const std::string aside = target_ + std::string(damaged_mark) + set_aside_suffix();
  if (auto done = fs_.rename(temp, aside); !done) return done;
  auto exchanged = fs_.exchange(aside, target_);
  if (!exchanged && exchanged.error().code == ErrorCode::kUnavailable) {
    // No atomic exchange here, so nothing has moved. A crash between these renames leaves no state
    // directory, which the check before the next start finds and heals.
    exchanged = fs_.rename(aside, temp);
    if (exchanged) exchanged = fs_.rename(target_, aside);
    if (exchanged) {
      exchanged = fs_.rename(temp, target_);
      if (!exchanged) best_effort(fs_.rename(aside, target_));
    }
  }
  if (!exchanged) return exchanged;
  if (auto done = fs_.sync_directory(parent); !done) return done;
  report_.set_aside = aside;
  if (empty_ && fs_.remove_directory(aside)) report_.set_aside.clear();
  return {};
}

Result<void> Restorer::restore_inside() {
  report_.in_place = true;
  report_.set_aside.clear();
  if (auto done = check_space(target_); !done) return done;
  const std::string temp = join(target_, std::string(restore_mark) + random_name());
  auto written = sweep(target_, std::string(restore_mark), "");
  if (written) written = write_tree(temp);
  if (!written) {
    best_effort(remove_tree(fs_, temp));
    return written;
  }
  if (auto done = swap_inside(temp); !done) return done;
  drop_old_set_aside(target_, std::string(damaged_mark));
  return {};
}

// Not atomic, so announced: while a .remora-swap-* directory exists the state is a mixture, and the
// check before an agent's start says so.
Result<void> Restorer::swap_inside(const std::string& temp) {
  const std::string swap = join(target_, std::string(swap_mark) + random_name());
  if (auto done = fs_.rename(temp, swap); !done) return done;
  if (auto done = fs_.sync_directory(target_); !done) return done;
  // Of an earlier restore that was cut short: it holds only copies from the store.
  if (auto done = sweep(target_, std::string(swap_mark), std::string(name_of(swap))); !done) {
    return done;
  }
  if (auto done = move_aside_inside(); !done) return done;
  auto names = fs_.list(swap);
  if (!names) return pass_on(names);
  for (const DirectoryEntry& entry : *names) {
    if (auto done = fs_.rename(join(swap, entry.name), join(target_, entry.name)); !done) {
      return done;
    }
  }
  if (auto done = fs_.sync_directory(target_); !done) return done;
  if (auto done = fs_.remove_directory(swap); !done) return done;
  // A volume's own directory often belongs to who made the volume (the kubelet, Docker). Then its
  // mode and its time are not ours to set, and the state in it is whole without.
  const auto done = fs_.set_metadata(target_, metadata_of(entries_[0], options_.set_owner));
  if (!done && done.error().code != ErrorCode::kPermission) return done;
  return fs_.sync_directory(target_);
}

Result<void> Restorer::move_aside_inside() {
  auto names = fs_.list(target_);
  if (!names) return pass_on(names);
  std::erase_if(*names, [](const DirectoryEntry& e) { return e.name.starts_with(own_mark); });
  if (names->empty()) return {};
  const std::string aside = join(target_, std::string(damaged_mark) + set_aside_suffix());
  if (auto done = fs_.make_directory(aside, 0700); !done) return done;
  // It must outlast a power cut before anything is moved into it.
  if (auto done = fs_.sync_directory(target_); !done) return done;
  for (const DirectoryEntry& entry : *names) {
    if (auto done = fs_.rename(join(target_, entry.name), join(aside, entry.name)); !done) {
      return done;
    }
  }
  if (auto done = fs_.sync_directory(aside); !done) return done;
  report_.set_aside = aside;
  return fs_.sync_directory(target_);
}

Result<void> Restorer::write_tree(const std::string& path) {
  report_.files = 0;
  report_.bytes = 0;
  for (const Entry& entry : entries_) {
    const std::string at = join(path, entry.path);
    Result<void> done;
    if (entry.type == EntryType::kDirectory) done = fs_.make_directory(at, 0700);
    if (entry.type == EntryType::kFile) done = write_file(at, entry);
    if (!done) return done;
  }
  // Links come after every file: nothing is ever written with one in its path.
  for (const Entry& entry : entries_) {
    if (entry.type != EntryType::kSymlink) continue;
    const std::string at = join(path, entry.path);
    if (auto done = fs_.make_symlink(entry.text, at); !done) return done;
    if (auto done = fs_.set_metadata(at, metadata_of(entry, options_.set_owner)); !done) {
      return done;
    }
  }
  // Children first: a directory's time and a read-only mode must come after what is made in it.
  for (const Entry& entry : std::views::reverse(entries_)) {
    if (entry.type != EntryType::kDirectory) continue;
    auto done = fs_.set_metadata(join(path, entry.path), metadata_of(entry, options_.set_owner));
    if (!done) return done;
  }
  // One flush of the volume instead of one fsync per file: a tree of thousands of small files
  // would otherwise take seconds of an outage.
  return fs_.sync_volume(path);
}

Result<void> Restorer::write_file(const std::string& path, const Entry& entry) {
  auto file = fs_.create(path, 0600);
  if (!file) return pass_on(file);
  std::string plain;
  for (const ChunkRef& chunk : entry.chunks) {
    if (auto done = reader_->read_chunk(chunk.id, plain); !done) {
      return pass_on(done, entry.path);
    }
    if (plain.size() != chunk.bytes) return corrupt(entry.path + ": chunk length differs");
    auto done = all_zero(plain) ? (*file)->skip(plain.size()) : (*file)->write(plain);
    if (!done) return done;
  }
  if (auto done = (*file)->finish(); !done) return done;
  ++report_.files;
  report_.bytes += entry.size;
  return fs_.set_metadata(path, metadata_of(entry, options_.set_owner));
}

// Removes what earlier restores that were cut short left under directory.
Result<void> Restorer::sweep(const std::string& directory, const std::string& prefix,
                             const std::string& except) {
  auto names = fs_.list(directory);
  if (!names) return pass_on(names);
  for (const DirectoryEntry& entry : *names) {
    if (!entry.name.starts_with(prefix) || entry.name == except) continue;
    if (auto done = remove_tree(fs_, join(directory, entry.name)); !done) return done;
  }
  return {};
}

// Errors don't matter here: the restore is done, and the next one tries again.
void Restorer::drop_old_set_aside(const std::string& directory, const std::string& prefix) {
  auto names = fs_.list(directory);
  if (!names) return;
  std::erase_if(*names, [&](const DirectoryEntry& e) { return !e.name.starts_with(prefix); });
  // Sorted by name, which begins with the time.
  for (size_t i = 0; i + set_aside_keep_max < names->size(); ++i) {
    best_effort(remove_tree(fs_, join(directory, (*names)[i].name)));
  }
}

std::string Restorer::set_aside_suffix() const {
  return utc_text(to_unix_ns(options_.clock->wall_now())) + "-" + random_name().substr(0, 4);
}

}  // namespace

Result<RestoreReport> restore_snapshot(Store& store, const SnapshotInfo& snapshot,
                                       const RestoreOptions& options) {
  return Restorer(store, options).run(snapshot);
}

Result<RestoreReport> restore_latest(Store& store, const RestoreOptions& options) {
  auto all = store.list();
  if (!all) return pass_on(all);
  std::vector<std::string> passed_over;
  for (const SnapshotInfo& snapshot : std::views::reverse(*all)) {
    auto report = restore_snapshot(store, snapshot, options);
    if (report) {
      report->passed_over = std::move(passed_over);
      return report;
    }
    const ErrorCode code = report.error().code;
    if (code != ErrorCode::kCorrupt && code != ErrorCode::kNotFound) return report;
    passed_over.push_back(snapshot.id + ": " + report.error().message);
  }
  std::string message = "no intact snapshot in " + store.location();
  for (const std::string& problem : passed_over) message += "; " + problem;
  return storage_error(ErrorCode::kNotFound, std::move(message));
}

Result<bool> has_unfinished_restore(FileSystem& fs, const std::string& state_dir) {
  auto names = fs.list(state_dir);
  if (!names) return pass_on(names);
  return std::ranges::any_of(*names,
                             [](const DirectoryEntry& e) { return e.name.starts_with(swap_mark); });
}

std::string utc_text(int64_t unix_ns) {
  const std::time_t seconds = unix_ns / 1'000'000'000;
  std::tm tm{};
  ::gmtime_r(&seconds, &tm);
  char text[32];
  std::strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", &tm);
  return text;
}

}  // namespace remora::checkpoint
