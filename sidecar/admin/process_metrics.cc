// process_*: what the kernel says about this process (proc(5)).
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "sidecar/admin/remora_metrics.h"
#include "sidecar/base/handle.h"

namespace remora {
namespace {

constexpr size_t proc_file_bytes_max = 64 * 1024;

// Empty when it can't be read: the series then keep their last values.
std::string read_proc_file(const char* path) {
  const UniqueFd fd(::open(path, O_RDONLY | O_CLOEXEC));
  std::string text;
  char chunk[4096];
  while (fd && text.size() < proc_file_bytes_max) {
    const ssize_t n = ::read(fd.get(), chunk, sizeof chunk);
    if (n <= 0) break;
    text.append(chunk, static_cast<size_t>(n));
  }
  return text;
}

double number_in(std::string_view text) {
  double n = 0;
  std::from_chars(text.data(), text.data() + text.size(), n);
  return n;
}

// Field n (from 3: state) of /proc/self/stat; the command before them may hold blanks.
std::string_view stat_field(std::string_view stat, int n) {
  const size_t command_end = stat.rfind(')');
  if (command_end == std::string_view::npos) return {};
  stat.remove_prefix(command_end + 1);
  for (int field = 2; !stat.empty(); ++field) {
    const size_t blank = stat.find(' ');
    if (field == n) return stat.substr(0, blank);
    if (blank == std::string_view::npos) return {};
    stat.remove_prefix(blank + 1);
  }
  return {};
}

double boot_time_s() {
  const std::string stat = read_proc_file("/proc/stat");
  const size_t line = stat.find("\nbtime ");
  return line == std::string::npos ? 0 : number_in(std::string_view(stat).substr(line + 7));
}

double open_fd_count() {
  const CHandle<DIR, closedir> dir(::opendir("/proc/self/fd"));
  if (!dir) return 0;
  int count = -1;  // the one that reads
  while (const dirent* entry = ::readdir(dir.get())) {
    if (entry->d_name[0] != '.') ++count;
  }
  return count;
}

}  // namespace

void add_process_metrics(MetricRegistry& registry) {
  Gauge& cpu = registry.float_counter("process_cpu_seconds_total",
                                      "User and system CPU time spent in seconds.");
  Gauge& resident = registry.gauge("process_resident_memory_bytes", "Resident memory in bytes.");
  Gauge& virt = registry.gauge("process_virtual_memory_bytes", "Virtual memory in bytes.");
  Gauge& fds = registry.gauge("process_open_fds", "Open file descriptors.");
  Gauge& fds_max = registry.gauge("process_max_fds", "Limit on open file descriptors.");
  Gauge& start =
      registry.gauge("process_start_time_seconds", "Start time in seconds since the Unix epoch.");
  registry.on_collect([&cpu, &resident, &virt, &fds, &fds_max, &start] {
    const std::string stat = read_proc_file("/proc/self/stat");
    if (stat.empty()) return;
    const auto ticks_per_s = static_cast<double>(::sysconf(_SC_CLK_TCK));
    const auto page_bytes = static_cast<double>(::sysconf(_SC_PAGESIZE));
    cpu.set((number_in(stat_field(stat, 14)) + number_in(stat_field(stat, 15))) / ticks_per_s);
    virt.set(number_in(stat_field(stat, 23)));
    resident.set(number_in(stat_field(stat, 24)) * page_bytes);
    if (start.value() == 0) {
      start.set(boot_time_s() + number_in(stat_field(stat, 22)) / ticks_per_s);
    }
    fds.set(open_fd_count());
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) fds_max.set(static_cast<double>(limit.rlim_cur));
  });
}

}  // namespace remora
