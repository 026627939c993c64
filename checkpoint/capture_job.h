// One capture, from its first scan to the published snapshot: the inside of take_snapshot().
// capture.cc reads what changed, capture_stop.cc has the stop and the publishing.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "checkpoint/capture.h"
#include "checkpoint/chunker.h"
#include "checkpoint/errors.h"
#include "checkpoint/state_scan.h"

namespace remora::checkpoint {

std::unexpected<Error> damaged_state(const std::string& path, std::string_view problem);
// By their stats, the content can't differ.
bool same_content(const FileStat& a, const FileStat& b);
bool all_zero(std::string_view bytes);

// A file copied while the agent stood still: in memory, or at a path in the staging directory.
struct StagedCopy {
  Entry entry;
  std::string memory;
  std::string path;
};

class Capture {
 public:
  Capture(Store& store, const CaptureOptions& options)
      : store_(store),
        options_(options),
        fs_(options.file_system != nullptr ? *options.file_system : real_file_system()) {}
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  ~Capture() {
    // Best effort; the store sweeps what is left.
    if (!staging_.empty()) best_effort(remove_tree(fs_, staging_));
  }

  Result<CaptureReport> run(const Epoch& epoch);

 private:
  Result<void> open(const Epoch& epoch);
  Result<void> read_previous(const std::vector<SnapshotInfo>& all);
  Result<void> check_space();
  Result<void> check_not_lost(const StateScan& scan);
  // Reads what changed, into entries_. True when anything had.
  Result<bool> read_changed(const StateScan& scan);
  Result<void> read_file(const ScannedFile& file);
  Result<bool> read_content(const ScannedFile& file, Entry& entry);
  Result<void> store_content(ReadableFile& file, uint64_t size, Entry& entry);
  Result<void> store_sqlite(Entry& entry);
  Result<void> store_bytes(std::string_view bytes, std::vector<ChunkRef>& chunks);

  // The stop.
  Result<StateScan> read_while_stopped();
  Result<void> copy_changed(const StateScan& scan, std::vector<StagedCopy>& copies);
  Result<bool> copy_aside(const ScannedFile& file, StagedCopy& copy);
  Result<void> store_copies(std::vector<StagedCopy>& copies);

  Result<void> publish(const StateScan& scan);
  std::vector<Entry> final_entries(const StateScan& scan);

  // The previous content of an unchanged file, or null.
  const Entry* reusable(const ScannedFile& file) const;
  bool is_side_file(const ScannedFile& file) const;
  Entry new_entry(const ScannedFile& file) const;
  Result<std::string> staging_path();
  bool cancelled() const { return options_.cancelled && options_.cancelled->load(); }

  Store& store_;
  const CaptureOptions& options_;
  FileSystem& fs_;
  std::string root_;
  std::string staging_;
  ScanOptions scan_options_;
  std::unique_ptr<SnapshotWriter> writer_;
  std::optional<SnapshotInfo> previous_;
  std::unordered_map<std::string, Entry> previous_entries_;
  // What this capture has read, by path.
  std::unordered_map<std::string, Entry> entries_;
  std::unordered_set<std::string> late_databases_;
  StreamChunker chunker_;
  uint64_t staged_memory_bytes_ = 0;
  CaptureReport report_;
};

}  // namespace remora::checkpoint
