#include "benchmarks/cpu_time.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace remora::bench {

Result<Duration> cpu_time(const std::vector<int>& pids) {
  Duration sum = Duration::zero();
  for (const int pid : pids) {
    const std::filesystem::path tasks = "/proc/" + std::to_string(pid) + "/task";
    std::error_code error;
    std::filesystem::directory_iterator threads(tasks, error);
    if (error) {
      return std::unexpected(error_from_errno(error.value(), "read " + tasks.string()));
    }
    while (threads != std::filesystem::directory_iterator{}) {
      std::ifstream schedstat(threads->path() / "schedstat");
      int64_t on_core_ns = 0;
      if (schedstat >> on_core_ns) sum += Duration(on_core_ns);
      threads.increment(error);
      if (error) break;
    }
  }
  return sum;
}

}  // namespace remora::bench
