// A scratch directory with a state, a store, and a clock that runs ahead (so that files just
// written are old enough to be trusted by their time stamps).
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include <gtest/gtest.h>
#include <unistd.h>

#include "checkpoint/capture.h"
#include "checkpoint/file_system.h"
#include "checkpoint/local_store.h"
#include "checkpoint/restore.h"
#include "tests/fakes/temp_directory.h"

namespace remora::checkpoint {

class AheadClock final : public Clock {
 public:
  MonotonicTime now() const override { return MonotonicTime(passed_); }
  WallTime wall_now() const override {
    return SystemClock().wall_now() + std::chrono::seconds(60) + passed_;
  }
  void advance(Duration d) { passed_ += d; }

 private:
  Duration passed_{0};
};

class ScratchDirectory : public TempDirectory {
 public:
  ScratchDirectory() : TempDirectory(parent()) {}
  std::string operator/(const std::string& name) const { return path() + "/" + name; }

 private:
  // In memory where that is possible: the tests sync thousands of times.
  static std::filesystem::path parent() {
    const std::filesystem::path memory = "/dev/shm";
    return ::access(memory.c_str(), W_OK) == 0 ? memory : std::filesystem::temp_directory_path();
  }
};

inline void write_file(const std::string& path, const std::string& bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Bytes that don't compress, the same for the same seed.
inline std::string noise(size_t bytes, uint64_t seed = 1) {
  std::string out(bytes, '\0');
  uint64_t x = seed * 0x9e3779b97f4a7c15 + 1;
  for (char& c : out) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    c = static_cast<char>(x);
  }
  return out;
}

// Every file below a directory: path -> content; links as "-> target", directories as "/".
inline std::map<std::string, std::string> tree_of(const std::string& root) {
  std::map<std::string, std::string> tree;
  if (!std::filesystem::exists(root)) return tree;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    const std::string path = std::filesystem::relative(entry.path(), root);
    if (entry.is_symlink()) {
      tree[path] = "-> " + std::filesystem::read_symlink(entry.path()).string();
    } else if (entry.is_directory()) {
      tree[path] = "/";
    } else if (entry.is_regular_file()) {
      tree[path] = read_file(entry.path());
    }
  }
  return tree;
}

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() { std::filesystem::create_directory(state_); }

  std::unique_ptr<LocalStore> open_store(FileSystem* fs = nullptr) {
    auto store = LocalStore::open({.root = store_path_,
                                   .mode = OpenMode::kCreate,
                                   .file_system = fs,
                                   .lock_wait_max = std::chrono::milliseconds(30)});
    EXPECT_TRUE(store.has_value()) << store.error().message;
    return store ? std::move(*store) : nullptr;
  }

  CaptureOptions capture_options(FileSystem* fs = nullptr) {
    CaptureOptions options;
    options.state_dir = state_;
    options.file_system = fs;
    options.clock = &clock_;
    return options;
  }

  Result<CaptureReport> try_take(Store& store, FileSystem* fs = nullptr) {
    auto epoch = store.current_epoch();
    if (!epoch) return std::unexpected<Error>(epoch.error());
    return take_snapshot(store, *epoch, capture_options(fs));
  }

  CaptureReport take(Store& store, FileSystem* fs = nullptr) {
    auto report = try_take(store, fs);
    EXPECT_TRUE(report.has_value()) << report.error().message;
    return report ? *report : CaptureReport{};
  }

  RestoreOptions restore_options(FileSystem* fs = nullptr) {
    return {.state_dir = state_, .file_system = fs, .clock = &clock_, .set_owner = false};
  }

  ScratchDirectory scratch_;
  const std::string state_ = scratch_ / "state";
  const std::string store_path_ = scratch_ / "store";
  AheadClock clock_;
};

}  // namespace remora::checkpoint
