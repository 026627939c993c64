// A file system that fails on demand, over the real one.
//
// - fail_from(step): from the n-th changing call on, everything that changes the disk fails, as if
//   the process had died there. fail_once(step, errno): only that call fails.
// - crash(mode): what a power cut leaves. Everything that was not made durable (fsync of the file,
//   fsync of its directory, or syncfs) is undone in reverse order, or left as it is.
// - write_budget: after that many written bytes, writes fail with ENOSPC.
// The step count makes a test exhaustive: run once to learn it, then once for every step.
#pragma once

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/file_system.h"

namespace remora::checkpoint {

class FaultFileSystem final : public FileSystem {
 public:
  enum class CrashMode { kKeepAll, kDropUnsynced };
  enum class Call { kAny, kSync, kWrite, kRename };

  // stash: an empty directory on the same volume, where removed files wait until their removal is
  // durable.
  explicit FaultFileSystem(std::string stash) : stash_(std::move(stash)) {}

  uint64_t steps() const { return steps_; }
  void reset_steps() { steps_ = 0; }
  void fail_from(uint64_t step) { fail_from_ = step; }
  void fail_once(uint64_t step, int err) { fail_once_ = {step, err}; }
  // Every call of this kind fails.
  void fail_calls(Call call, int err) { fail_call_ = {call, err}; }
  void set_write_budget(uint64_t bytes) { write_budget_ = bytes; }
  // What space() answers, when set.
  void set_free_bytes(uint64_t bytes) { free_bytes_ = bytes; }
  void heal() {
    fail_from_ = never;
    fail_once_ = {never, 0};
    fail_call_ = {Call::kAny, 0};
    write_budget_ = never;
    free_bytes_ = never;
  }

  void crash(CrashMode mode) {
    heal();
    if (mode == CrashMode::kDropUnsynced) {
      for (const auto& [path, synced] : unsynced_data_) {
        std::error_code ignored;
        if (std::filesystem::is_regular_file(std::filesystem::symlink_status(path, ignored))) {
          std::filesystem::resize_file(path, synced, ignored);
        }
      }
      for (auto it = undo_.rbegin(); it != undo_.rend(); ++it) it->undo();
    }
    undo_.clear();
    unsynced_data_.clear();
  }

  Result<std::unique_ptr<ReadableFile>> open(const std::string& path) override {
    return real_.open(path);
  }

  Result<std::unique_ptr<WritableFile>> create(const std::string& path, uint32_t mode) override {
    if (auto ok = step(Call::kAny, path); !ok) return std::unexpected<Error>(ok.error());
    auto file = real_.create(path, mode);
    if (!file) return file;
    unsynced_data_[path] = 0;
    remember(path, [path] { std::filesystem::remove(path); });
    return std::make_unique<File>(*this, path, std::move(*file));
  }

  Result<void> make_directory(const std::string& path, uint32_t mode) override {
    if (auto ok = step(Call::kAny, path); !ok) return ok;
    auto done = real_.make_directory(path, mode);
    if (done) remember(path, [path] { std::filesystem::remove_all(path); });
    return done;
  }

  Result<void> make_symlink(const std::string& target, const std::string& path) override {
    if (auto ok = step(Call::kAny, path); !ok) return ok;
    auto done = real_.make_symlink(target, path);
    if (done) remember(path, [path] { std::filesystem::remove(path); });
    return done;
  }

  Result<void> rename(const std::string& from, const std::string& to) override {
    if (auto ok = step(Call::kRename, to); !ok) return ok;
    std::string replaced;
    if (real_.stat(to)) {
      replaced = stash_ + "/" + random_name();
      auto st = real_.stat(to);
      if (st->type != FileType::kDirectory) std::filesystem::copy_file(to, replaced);
    }
    auto done = real_.rename(from, to);
    if (!done) return done;
    move_unsynced(from, to);
    remember(to, [from, to, replaced] {
      std::error_code ignored;
      std::filesystem::rename(to, from, ignored);
      if (!replaced.empty()) std::filesystem::rename(replaced, to, ignored);
    });
    return {};
  }

  Result<void> exchange(const std::string& a, const std::string& b) override {
    if (auto ok = step(Call::kRename, b); !ok) return ok;
    if (!exchange_works) {
      return std::unexpected<Error>(
          Error{ErrorCode::kUnavailable, ErrorSource::kStorage, false, "exchange: not here"});
    }
    auto done = real_.exchange(a, b);
    if (!done) return done;
    const std::string between = b + "\x01swap";
    move_unsynced(a, between);
    move_unsynced(b, a);
    move_unsynced(between, b);
    remember(b, [this, a, b] { static_cast<void>(real_.exchange(a, b)); });
    return {};
  }

  Result<void> remove_file(const std::string& path) override {
    if (auto ok = step(Call::kAny, path); !ok) return ok;
    const std::string kept = stash_ + "/" + random_name();
    auto done = real_.rename(path, kept);
    if (done) {
      remember(path, [path, kept] {
        std::error_code ignored;
        std::filesystem::rename(kept, path, ignored);
      });
    }
    return done;
  }

  Result<void> remove_directory(const std::string& path) override {
    if (auto ok = step(Call::kAny, path); !ok) return ok;
    auto done = real_.remove_directory(path);
    if (done) {
      remember(path, [path] {
        std::error_code ignored;
        std::filesystem::create_directory(path, ignored);
      });
    }
    return done;
  }

  Result<void> sync_directory(const std::string& path) override {
    if (auto ok = step(Call::kSync, path); !ok) return ok;
    auto done = real_.sync_directory(path);
    if (done) std::erase_if(undo_, [&](const Undo& u) { return u.directory == path; });
    return done;
  }

  Result<void> sync_volume(const std::string& path) override {
    if (auto ok = step(Call::kSync, path); !ok) return ok;
    // Not the kernel's syncfs: the tests need the bookkeeping, not the disk.
    undo_.clear();
    unsynced_data_.clear();
    return {};
  }

  Result<void> set_metadata(const std::string& path, const OwnerAndTimes& what) override {
    if (auto ok = step(Call::kAny, path); !ok) return ok;
    if (path == not_ours) {
      return std::unexpected(error_from_errno(EPERM, "chmod " + path, ErrorSource::kStorage));
    }
    return real_.set_metadata(path, what);
  }

  Result<FileStat> stat(const std::string& path) override {
    auto st = real_.stat(path);
    if (st && path == mount_point) st->mount_root = true;
    return st;
  }
  Result<std::vector<DirectoryEntry>> list(const std::string& path) override {
    return real_.list(path);
  }
  Result<std::string> read_link(const std::string& path) override { return real_.read_link(path); }
  Result<SpaceInfo> space(const std::string& path) override {
    auto space = real_.space(path);
    if (space && free_bytes_ != never) space->free_bytes = free_bytes_;
    return space;
  }
  Result<std::unique_ptr<FileLock>> lock(const std::string& path, LockKind kind,
                                         Duration wait_max) override {
    if (!locks_hold) return std::make_unique<FileLock>();
    return real_.lock(path, kind, wait_max);
  }

  // A directory that says it is a mount point.
  std::string mount_point;
  // One that belongs to another user: we may write into it but not change it.
  std::string not_ours;
  bool exchange_works = true;
  // False: everybody gets every lock, as on a volume whose locks hold on one machine only.
  bool locks_hold = true;
  // Right before each changing call, with its number.
  std::function<void(uint64_t step)> before_step;

 private:
  static constexpr uint64_t never = std::numeric_limits<uint64_t>::max();

  struct Undo {
    std::string directory;
    std::function<void()> undo;
  };

  class File final : public WritableFile {
   public:
    File(FaultFileSystem& fs, std::string path, std::unique_ptr<WritableFile> real)
        : fs_(fs), path_(std::move(path)), real_(std::move(real)) {}
    Result<void> write(std::string_view bytes) override {
      if (auto ok = fs_.step(Call::kWrite, path_); !ok) return ok;
      if (bytes.size() > fs_.write_budget_) {
        // A full disk takes what still fits.
        static_cast<void>(real_->write(bytes.substr(0, fs_.write_budget_)));
        fs_.write_budget_ = 0;
        return std::unexpected<Error>(
            error_from_errno(ENOSPC, "write " + path_, ErrorSource::kStorage));
      }
      if (fs_.write_budget_ != never) fs_.write_budget_ -= bytes.size();
      return real_->write(bytes);
    }
    Result<void> skip(uint64_t bytes) override { return real_->skip(bytes); }
    Result<void> sync() override {
      if (auto ok = fs_.step(Call::kSync, path_); !ok) return ok;
      auto done = real_->finish();
      if (done) fs_.unsynced_data_.erase(path_);
      return done;
    }
    Result<void> finish() override {
      if (auto ok = fs_.step(Call::kAny, path_); !ok) return ok;
      return real_->finish();
    }
    uint64_t size() const override { return real_->size(); }

   private:
    FaultFileSystem& fs_;
    const std::string path_;
    std::unique_ptr<WritableFile> real_;
  };

  Result<void> step(Call call, const std::string& path) {
    const uint64_t now = steps_++;
    if (before_step) before_step(now);
    int err = 0;
    if (now >= fail_from_) err = EIO;
    if (now == fail_once_.first) err = fail_once_.second;
    if (fail_call_.second != 0 && fail_call_.first == call) err = fail_call_.second;
    if (err == 0) return {};
    return std::unexpected<Error>(error_from_errno(err, "injected " + path, ErrorSource::kStorage));
  }

  void remember(const std::string& path, std::function<void()> undo) {
    undo_.push_back({std::string(parent_of(path)), std::move(undo)});
  }

  // A path or a whole tree got a new name.
  void move_unsynced(const std::string& from, const std::string& to) {
    std::map<std::string, uint64_t> moved;
    for (auto it = unsynced_data_.begin(); it != unsynced_data_.end();) {
      if (it->first == from || it->first.starts_with(from + "/")) {
        moved[to + it->first.substr(from.size())] = it->second;
        it = unsynced_data_.erase(it);
      } else {
        ++it;
      }
    }
    unsynced_data_.insert(moved.begin(), moved.end());
  }

  FileSystem& real_ = real_file_system();
  const std::string stash_;
  uint64_t steps_ = 0;
  uint64_t fail_from_ = never;
  std::pair<uint64_t, int> fail_once_{never, 0};
  std::pair<Call, int> fail_call_{Call::kAny, 0};
  uint64_t write_budget_ = never;
  uint64_t free_bytes_ = never;
  std::vector<Undo> undo_;
  // Path and how much of it is durable.
  std::map<std::string, uint64_t> unsynced_data_;
};

}  // namespace remora::checkpoint
