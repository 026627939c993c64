#include "sidecar/health/oom_counter.h"

#include <array>

#include <fcntl.h>
#include <unistd.h>

#include "sidecar/base/handle.h"
#include "sidecar/health/proc_text.h"

namespace remora {
namespace {

std::optional<std::string> read_text(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return std::nullopt;
  std::array<char, 16384> text{};  // /proc/vmstat has some 5 KB
  const ssize_t n = ::read(file.get(), text.data(), text.size());
  if (n < 0) return std::nullopt;
  return std::string(text.data(), static_cast<size_t>(n));
}

// The file in the cgroup's own directory or the nearest one above: inside a container the path that
// /proc shows may begin above what is mounted.
std::string find_upwards(const std::string& mount, std::string path, const std::string& name) {
  while (true) {
    std::string file = mount + (path == "/" ? "" : path) + "/" + name;
    if (::access(file.c_str(), R_OK) == 0) return file;
    if (path.empty() || path == "/") return {};
    path.erase(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
}

}  // namespace

OomCounter::OomCounter(pid_t pid, const std::string& proc_root, const std::string& cgroup_root)
    : pid_(pid), proc_root_(proc_root), cgroup_root_(cgroup_root), file_(find_file()) {
  at_start_ = read().value_or(0);
  machine_at_last_look_ = read_machine();
  machine_before_ = machine_at_last_look_;
}

std::string OomCounter::find_file() const {
  const auto text = read_text(proc_root_ + "/" + std::to_string(pid_) + "/cgroup");
  if (!text) return {};
  const CgroupPaths paths = parse_cgroup(*text);
  if (paths.memory) {
    std::string file = find_upwards(cgroup_root_ + "/memory", *paths.memory, "memory.oom_control");
    if (!file.empty()) return file;
  }
  return paths.unified ? find_upwards(cgroup_root_, *paths.unified, "memory.events")
                       : std::string();
}

void OomCounter::follow() {
  // A killed process takes a while to end, and this may be that while: its kill must not be taken
  // for one from before.
  machine_before_ = machine_at_last_look_;
  machine_at_last_look_ = read_machine();
  std::string file = find_file();
  if (file.empty() || file == file_) return;
  file_ = std::move(file);
  at_start_ = read().value_or(0);
}

std::optional<uint64_t> OomCounter::read() const {
  if (file_.empty()) return std::nullopt;
  const auto text = read_text(file_);
  return text ? parse_keyed_counter(*text, "oom_kill") : std::nullopt;
}

uint64_t OomCounter::read_machine() const {
  const auto text = read_text(proc_root_ + "/vmstat");
  return text ? parse_keyed_counter(*text, "oom_kill").value_or(0) : 0;
}

uint64_t OomCounter::kills() const {
  const uint64_t now = read().value_or(at_start_);
  if (now > at_start_) return now - at_start_;
  const uint64_t machine = read_machine();
  return machine > machine_before_ ? machine - machine_before_ : 0;
}

}  // namespace remora
