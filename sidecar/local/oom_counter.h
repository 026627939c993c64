// Did the kernel's OOM killer strike in the agent's memory cgroup? Works with cgroup v1 and v2.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <sys/types.h>

namespace remora {

class OomCounter {
 public:
  // Notes the counter of pid's memory cgroup; the roots are parameters for tests.
  explicit OomCounter(pid_t pid, const std::string& proc_root = "/proc",
                      const std::string& cgroup_root = "/sys/fs/cgroup");
  // Kills in that cgroup since then; 0 when there is nothing to read.
  uint64_t kills() const;

 private:
  std::optional<uint64_t> read() const;

  std::string file_;  // memory.events or memory.oom_control; empty: none found
  uint64_t at_start_ = 0;
};

}  // namespace remora
