#include "sidecar/heal/incident_log.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include <sys/stat.h>
#include <unistd.h>

#include "sidecar/base/log.h"
#include "sidecar/heal/durable_file.h"

namespace remora {
namespace {

constexpr std::string_view suffix = ".json";

std::string incidents_dir(const std::string& store_dir) { return store_dir + "/incidents"; }

// Ids of the files there, sorted: oldest first. Temporary and foreign files are passed over.
Result<std::set<std::string>> list_ids(const std::string& directory) {
  std::error_code error;
  std::set<std::string> ids;
  std::filesystem::directory_iterator it(directory, error);
  for (; !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.ends_with(suffix)) continue;
    std::string id = name.substr(0, name.size() - suffix.size());
    if (is_incident_id(id)) ids.insert(std::move(id));
  }
  if (error) {
    return std::unexpected(
        error_from_errno(error.value(), "read directory " + directory, ErrorSource::kStorage));
  }
  return ids;
}

Result<Incident> read_incident(const std::string& directory, const std::string& id) {
  auto text = read_small_file(directory + "/" + id + std::string(suffix), incident_file_bytes_max);
  if (!text) return std::unexpected(std::move(text.error()));
  return incident_from_json(*text);
}

std::unexpected<Error> not_found(std::string message) {
  return make_error(ErrorCode::kNotFound, ErrorSource::kStorage, std::move(message));
}

Result<void> make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return {};
  const int err = errno;
  return std::unexpected(error_from_errno(err, "create " + path, ErrorSource::kStorage));
}

}  // namespace

void MemoryIncidentLog::write(const Incident& incident, Done done) {
  const auto it = std::find_if(incidents_.begin(), incidents_.end(),
                               [&](const Incident& kept) { return kept.id == incident.id; });
  if (it != incidents_.end()) {
    *it = incident;
  } else {
    if (incidents_.size() == incidents_kept_in_memory_max) incidents_.pop_front();
    incidents_.push_back(incident);
  }
  loop_.post([done = std::move(done)]() mutable { done({}); });
}

class DiskIncidentLog::Directory {
 public:
  explicit Directory(std::string path) : path_(std::move(path)) {}

  Result<void> write(const Incident& incident) {
    if (auto listed = list_once(); !listed) return listed;
    auto written =
        write_file_durably(path_, incident.id + std::string(suffix), incident_to_json(incident));
    if (!written) return written;
    ids_.insert(incident.id);
    prune();
    return {};
  }

  // Incidents that an earlier run left open can't be healed by anybody any more.
  void close_left_open(int64_t now_unix_ns) {
    if (auto listed = list_once(); !listed) return;
    size_t closed = 0;
    for (const std::string& id : ids_) {
      auto incident = read_incident(path_, id);
      if (!incident || incident->status == IncidentStatus::kClosed) continue;
      incident->status = IncidentStatus::kClosed;
      incident->closed_reason = ClosedReason::kSuperseded;
      incident->closed_at_unix_ns = now_unix_ns;
      if (!incident->steps.empty() && incident->steps.back().done_at_unix_ns == 0) {
        incident->steps.back().done_at_unix_ns = now_unix_ns;
        incident->steps.back().outcome = "cancelled: Remora itself ended";
      }
      if (write_file_durably(path_, id + std::string(suffix), incident_to_json(*incident))) {
        ++closed;
      }
    }
    if (closed > 0) log_warn("incidents_superseded", {{"count", closed}});
  }

 private:
  Result<void> list_once() {
    if (listed_) return {};
    auto ids = list_ids(path_);
    if (!ids) return std::unexpected(std::move(ids.error()));
    ids_ = std::move(*ids);
    listed_ = true;
    return {};
  }
  void prune() {
    while (ids_.size() > incidents_kept_on_disk_max) {
      // One that can't be removed is forgotten: it must not stop the others.
      ::unlink((path_ + "/" + *ids_.begin() + std::string(suffix)).c_str());
      ids_.erase(ids_.begin());
    }
  }

  std::string path_;
  bool listed_ = false;
  std::set<std::string> ids_;
};

Result<std::unique_ptr<DiskIncidentLog>> DiskIncidentLog::open(Loop& loop,
                                                               const std::string& store_dir,
                                                               int64_t now_unix_ns) {
  if (auto made = make_directory(store_dir); !made) return std::unexpected(made.error());
  const std::string path = incidents_dir(store_dir);
  if (auto made = make_directory(path); !made) return std::unexpected(made.error());
  if (::access(path.c_str(), R_OK | W_OK | X_OK) != 0) {
    const int err = errno;
    return std::unexpected(error_from_errno(err, "write to " + path, ErrorSource::kStorage));
  }
  auto directory = std::make_shared<Directory>(path);
  std::unique_ptr<DiskIncidentLog> log(new DiskIncidentLog(loop, directory));
  log->worker_->submit([directory, now_unix_ns] { directory->close_left_open(now_unix_ns); });
  return log;
}

DiskIncidentLog::DiskIncidentLog(Loop& loop, std::shared_ptr<Directory> directory)
    : loop_(loop), directory_(std::move(directory)), worker_(std::make_unique<WorkerThread>()) {}

DiskIncidentLog::~DiskIncidentLog() { *alive_ = false; }

void DiskIncidentLog::write(const Incident& incident, Done done) {
  worker_->submit(
      [this, directory = directory_, incident, alive = alive_, done = std::move(done)]() mutable {
        auto result = directory->write(incident);
        // The worker is joined by the destructor, so loop_ is still there; alive is read on the
        // loop.
        loop_.post_from_any_thread([alive = std::move(alive), done = std::move(done),
                                    result = std::move(result)]() mutable {
          if (*alive) done(std::move(result));
        });
      });
}

Result<IncidentListing> list_incidents(const std::string& store_dir) {
  if (::access(store_dir.c_str(), F_OK) != 0) {
    return not_found(store_dir + ": no such store; give the directory that remora run --store has");
  }
  const std::string directory = incidents_dir(store_dir);
  IncidentListing listing;
  if (::access(directory.c_str(), F_OK) != 0) return listing;
  auto ids = list_ids(directory);
  if (!ids) return std::unexpected(std::move(ids.error()));
  for (const std::string& id : *ids) {
    auto incident = read_incident(directory, id);
    if (incident) {
      listing.incidents.push_back(std::move(*incident));
    } else {
      listing.unreadable.push_back(id + std::string(suffix) + ": " + incident.error().message);
    }
  }
  return listing;
}

Result<Incident> load_incident(const std::string& store_dir, std::string_view id) {
  if (::access(store_dir.c_str(), F_OK) != 0) {
    return not_found(store_dir + ": no such store; give the directory that remora run --store has");
  }
  const std::string directory = incidents_dir(store_dir);
  if (::access(directory.c_str(), F_OK) != 0) return not_found("the store holds no incidents");
  auto ids = list_ids(directory);
  if (!ids) return std::unexpected(std::move(ids.error()));
  if (ids->empty()) return not_found("the store holds no incidents");
  if (id == "latest") return read_incident(directory, *ids->rbegin());
  const auto first = ids->lower_bound(std::string(id));
  if (id.empty() || first == ids->end() || !first->starts_with(id)) {
    return not_found("no incident " + std::string(id) + "; remora incident list shows them");
  }
  if (*first != id && std::next(first) != ids->end() && std::next(first)->starts_with(id)) {
    return make_error(ErrorCode::kInvalidArgument, ErrorSource::kStorage,
                      "several incidents begin with " + std::string(id) + ": give more of it");
  }
  return read_incident(directory, *first);
}

}  // namespace remora
