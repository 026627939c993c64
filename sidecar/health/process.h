// Reads what the kernel shows of the agent: its process and everything below it or in its group.
// Nothing is stopped or changed. What may not be read is named in `degraded`, never guessed.
//
// Any one thread at a time.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "sidecar/health/observation.h"
#include "sidecar/health/socket_table.h"

namespace remora {

// Bounds on one reading; the rest is left out.
inline constexpr size_t processes_read_max = 256;
inline constexpr size_t threads_read_max = 1024;
inline constexpr size_t sockets_read_max = 256;

class ProcessReader {
 public:
  // copies_allowed: descriptors are copied (pidfd_getfd) until that is refused, then the kernel's
  // listing of sockets is read.
  ProcessReader(std::string proc_root, std::string cgroup_root, bool copies_allowed = true)
      : proc_(std::move(proc_root)),
        cgroup_(std::move(cgroup_root)),
        copies_allowed_(copies_allowed) {}

  // Fills the parts of sample that come from /proc and the cgroup.
  // detailed: threads, descriptors and connections too, which cost a system call or more each.
  void read(pid_t pid, bool detailed, ProgressSample& sample);
  // The agent's processes at the last reading, the agent itself first.
  const std::vector<pid_t>& processes() const { return processes_; }

 private:
  void find_processes(pid_t pid);
  void read_process(pid_t pid, bool detailed, ProgressSample& sample);
  void read_run_queue(pid_t pid, ProgressSample& sample);
  void read_threads(pid_t pid, ProgressSample& sample);
  void read_descriptors(pid_t pid, ProgressSample& sample);
  struct OpenSocket {
    int fd;
    uint64_t inode;
  };
  void read_sockets(pid_t pid, const std::vector<OpenSocket>& open, ProgressSample& sample);
  std::optional<std::vector<TcpSocket>> sockets_by_copy(pid_t pid,
                                                        const std::vector<OpenSocket>& open,
                                                        ProgressSample& sample);
  std::optional<std::vector<TcpSocket>> sockets_by_listing(pid_t pid,
                                                           const std::vector<OpenSocket>& open,
                                                           ProgressSample& sample);
  // Adds the connection to the calls when something is under way on it.
  void judge_connection(pid_t pid, const TcpSocket& socket, ProgressSample& sample);
  void read_cgroup(pid_t pid, ProgressSample& sample);
  static void degrade(ProgressSample& sample, const std::string& what);

  std::string proc_;
  std::string cgroup_;
  bool copies_allowed_;
  std::vector<pid_t> processes_;
  // What a connection was like at the last reading.
  struct Seen {
    uint64_t bytes_sent = 0;
    uint64_t bytes_received = 0;  // grows: streaming
    bool awaiting = false;
  };
  std::map<std::string, Seen> seen_;  // by "pid:inode peer"
};

// The whole of a small file under /proc; nullopt with errno set when it can't be read.
std::optional<std::string> read_small_file(const std::string& path);
// The numeric entries of a directory, ascending.
std::vector<int> list_numbers(const std::string& directory);

}  // namespace remora
