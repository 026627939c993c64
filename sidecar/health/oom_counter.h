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
  // The agent may have been moved to another cgroup: counts from now on in that one. Only while it
  // runs, because a zombie's cgroup is not shown (v1).
  void follow();
  // Kills in that cgroup since then; 0 when there is nothing to read. An agent that moves and dies
  // between two looks leaves no trace in a cgroup that we know: then it is the machine's own count
  // (/proc/vmstat) since the look before the last, which may be another's. Ask only about a SIGKILL
  // that nobody here sent.
  uint64_t kills() const;

 private:
  std::string find_file() const;
  std::optional<uint64_t> read() const;
  uint64_t read_machine() const;

  pid_t pid_;
  std::string proc_root_;
  std::string cgroup_root_;
  std::string file_;  // memory.events or memory.oom_control; empty: none found
  uint64_t at_start_ = 0;
  uint64_t machine_at_last_look_ = 0;
  uint64_t machine_before_ = 0;  // at the look before
};

}  // namespace remora
