// Where incidents are kept. IncidentLog is the supervisor's seam; DiskIncidentLog keeps one file
// per incident under <store>/incidents/, MemoryIncidentLog the last ones when there is no store.
//
// An incident on disk is published by an atomic rename and fsynced before done is called, so that
// what is acted upon was written down first. File I/O runs on the log's own thread.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/base/worker.h"
#include "sidecar/heal/incident.h"
#include "sidecar/net/loop.h"

namespace remora {

inline constexpr size_t incidents_kept_on_disk_max = 1000;
inline constexpr size_t incidents_kept_in_memory_max = 100;

class IncidentLog {
 public:
  using Done = std::move_only_function<void(Result<void>)>;
  virtual ~IncidentLog() = default;
  // Keeps incident, replacing what was kept under its id. Loop thread; done is posted to the loop,
  // exactly once unless the log is destroyed first: kNoSpace, kPermission, kIo. Writes finish in
  // the order given.
  virtual void write(const Incident& incident, Done done) = 0;
};

class MemoryIncidentLog final : public IncidentLog {
 public:
  explicit MemoryIncidentLog(Loop& loop) : loop_(loop) {}
  void write(const Incident& incident, Done done) override;
  // Oldest first.
  const std::deque<Incident>& incidents() const { return incidents_; }

 private:
  Loop& loop_;
  std::deque<Incident> incidents_;
};

class DiskIncidentLog final : public IncidentLog {
 public:
  // Makes the directory where it is missing. What a Remora that died left open is closed as
  // superseded, at now_unix_ns, on the log's thread and before the first write. kNoSpace,
  // kPermission, kIo: take a MemoryIncidentLog instead.
  static Result<std::unique_ptr<DiskIncidentLog>> open(Loop& loop, const std::string& store_dir,
                                                       int64_t now_unix_ns);
  DiskIncidentLog(const DiskIncidentLog&) = delete;
  DiskIncidentLog& operator=(const DiskIncidentLog&) = delete;
  // Waits for the writes under way and drops those behind them; call after their done.
  ~DiskIncidentLog() override;
  void write(const Incident& incident, Done done) override;

 private:
  class Directory;  // used on the worker only
  DiskIncidentLog(Loop& loop, std::shared_ptr<Directory> directory);

  Loop& loop_;
  std::shared_ptr<Directory> directory_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::unique_ptr<WorkerThread> worker_;
};

// For the command line and tests. Files that can't be parsed are named in unreadable.
struct IncidentListing {
  std::vector<Incident> incidents;      // oldest first
  std::vector<std::string> unreadable;  // "NAME: reason"
};
// An absent incidents directory is an empty listing; an absent store is kNotFound.
Result<IncidentListing> list_incidents(const std::string& store_dir);
// id: an incident's id, the beginning of just one id, or "latest".
Result<Incident> load_incident(const std::string& store_dir, std::string_view id);

}  // namespace remora
