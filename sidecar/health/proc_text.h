// Parsers of the text that the kernel shows under /proc and /sys/fs/cgroup. Pure. The text is
// untrusted all the same (a process chooses its own name, a file may be cut short at any byte):
// whatever comes in, the answer is a value or nothing.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace remora {

// /proc/PID/stat and /proc/PID/task/TID/stat, proc_pid_stat(5).
struct ProcStat {
  pid_t tid = 0;
  std::string comm;  // printable ASCII; other bytes become '?'
  char state = '?';
  pid_t ppid = 0;
  pid_t pgrp = 0;
  uint64_t cpu_ticks = 0;           // utime + stime
  uint64_t children_cpu_ticks = 0;  // cutime + cstime: children that have been waited for
  uint64_t start_ticks = 0;         // since boot: tells a reused PID from the old one
};
std::optional<ProcStat> parse_stat(std::string_view text);

// /proc/PID/status, the lines that are used here.
struct ProcStatus {
  uint64_t voluntary_switches = 0;
  uint64_t involuntary_switches = 0;
  pid_t tgid = 0;
  pid_t ns_tid = 0;           // its TID in the innermost PID namespace it is in
  uint32_t cpus_allowed = 0;  // how many
};
std::optional<ProcStatus> parse_status(std::string_view text);

// /proc/PID/task/TID/schedstat: ns on a CPU, ns runnable without one.
struct SchedStat {
  uint64_t cpu_ns = 0;
  uint64_t runqueue_wait_ns = 0;
};
std::optional<SchedStat> parse_schedstat(std::string_view text);

// /proc/PID/task/TID/syscall, proc_pid_syscall(5).
struct SyscallState {
  enum class Kind : uint8_t { kRunning, kOutsideSyscall, kInSyscall };
  Kind kind = Kind::kRunning;
  int64_t number = -1;
  std::array<uint64_t, 6> args{};
};
std::optional<SyscallState> parse_syscall(std::string_view text);
// "futex", "epoll_wait", …; "syscall 999" for one that is not expected to wait. Empty: none.
std::string syscall_name(const SyscallState& state);
// Waits on a futex, without a time limit.
bool is_untimed_futex(const SyscallState& state);

// /proc/PID/io: rchar + wchar + read_bytes + write_bytes.
std::optional<uint64_t> parse_io_bytes(std::string_view text);
// /proc/PID/limits: the soft limit "Max open files"; 0 when unlimited.
std::optional<uint64_t> parse_open_files_limit(std::string_view text);
// /proc/PID/task/TID/children: at most children_max of them.
inline constexpr size_t children_max = 4096;
std::vector<pid_t> parse_children(std::string_view text);
// "socket:[1234]" gives 1234.
std::optional<uint64_t> parse_socket_link(std::string_view link);

// /proc/PID/cgroup: where a process is in the unified hierarchy and in a v1 controller's.
struct CgroupPaths {
  std::optional<std::string> unified;
  std::optional<std::string> memory;  // v1
  std::optional<std::string> cpu;     // v1
};
CgroupPaths parse_cgroup(std::string_view text);
// "key 123" lines: memory.events, memory.oom_control, cpu.stat.
std::optional<uint64_t> parse_keyed_counter(std::string_view text, std::string_view key);
// cpu.max: "50000 100000" gives 0.5; "max 100000" gives nothing.
std::optional<double> parse_cpu_max(std::string_view text);
// A file that holds one integer.
std::optional<int64_t> parse_integer(std::string_view text);

// /proc/PID/maps: the mapping that holds an address, as "libc.so.6+0x1f000" (offset into the file),
// "[heap]", "[stack]", or "anonymous memory"; empty when no mapping holds it.
std::string find_mapping(std::string_view maps, uint64_t address);

}  // namespace remora
