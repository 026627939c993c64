#include "sidecar/health/proc_text.h"

#include <charconv>
#include <cstddef>
#include <limits>

#include <fmt/format.h>
#include <linux/futex.h>
#include <sys/syscall.h>

namespace remora {
namespace {

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Takes the next run of non-blank characters off the front of text; empty at its end.
std::string_view take_word(std::string_view& text) {
  size_t begin = 0;
  while (begin < text.size() && is_blank(text[begin])) ++begin;
  size_t end = begin;
  while (end < text.size() && !is_blank(text[end])) ++end;
  const std::string_view word = text.substr(begin, end - begin);
  text.remove_prefix(end);
  return word;
}

std::string_view take_line(std::string_view& text) {
  const size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

template <typename Integer>
std::optional<Integer> to_integer(std::string_view word, int base = 10) {
  Integer value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value, base);
  if (error != std::errc() || end != word.data() + word.size()) return std::nullopt;
  return value;
}

std::optional<uint64_t> to_hex(std::string_view word) {
  if (word.starts_with("0x")) word.remove_prefix(2);
  return to_integer<uint64_t>(word, 16);
}

// Both may be near the top of their range in a hostile text.
uint64_t saturating_add(uint64_t a, uint64_t b) {
  return a > std::numeric_limits<uint64_t>::max() - b ? std::numeric_limits<uint64_t>::max()
                                                      : a + b;
}

std::string printable(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c < ' ' || c > '~') c = '?';
  }
  return out;
}

// "0-3,8,10-11": how many CPUs.
uint32_t count_cpu_list(std::string_view list) {
  constexpr uint32_t cpus_max = 1 << 16;
  uint32_t count = 0;
  while (!list.empty()) {
    const size_t comma = list.find(',');
    const std::string_view range = list.substr(0, comma);
    list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
    const size_t dash = range.find('-');
    const auto first = to_integer<uint32_t>(range.substr(0, dash));
    const auto last =
        dash == std::string_view::npos ? first : to_integer<uint32_t>(range.substr(dash + 1));
    if (!first || !last || *last < *first || *last >= cpus_max) return 0;
    count += *last - *first + 1;
    if (count > cpus_max) return 0;
  }
  return count;
}

// The value of a "Key:\tvalue" line, without surrounding blanks.
std::optional<std::string_view> value_of(std::string_view line, std::string_view key) {
  if (!line.starts_with(key) || line.size() <= key.size() || line[key.size()] != ':') {
    return std::nullopt;
  }
  line.remove_prefix(key.size() + 1);
  while (!line.empty() && is_blank(line.front())) line.remove_prefix(1);
  while (!line.empty() && is_blank(line.back())) line.remove_suffix(1);
  return line;
}

std::string_view file_name(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

}  // namespace

std::optional<ProcStat> parse_stat(std::string_view text) {
  // "TID (comm) S …": comm may hold blanks and parentheses, so its end is the last ")".
  const size_t open = text.find('(');
  const size_t close = text.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) {
    return std::nullopt;
  }
  ProcStat stat;
  std::string_view before = text.substr(0, open);
  const auto tid = to_integer<pid_t>(take_word(before));
  if (!tid || *tid <= 0) return std::nullopt;
  stat.tid = *tid;
  stat.comm = printable(text.substr(open + 1, close - open - 1));

  std::string_view rest = text.substr(close + 1);
  const std::string_view state = take_word(rest);
  const auto ppid = to_integer<pid_t>(take_word(rest));
  const auto pgrp = to_integer<pid_t>(take_word(rest));
  if (state.size() != 1 || !ppid || !pgrp) return std::nullopt;
  stat.state = printable(state).front();
  stat.ppid = *ppid;
  stat.pgrp = *pgrp;

  // Fields 6 to 13 are not used; 14 to 17 are utime, stime, cutime, cstime; 22 is starttime.
  for (int field = 6; field <= 13; ++field) take_word(rest);
  std::array<uint64_t, 4> ticks{};
  for (uint64_t& value : ticks) {
    const auto number = to_integer<int64_t>(take_word(rest));
    if (!number || *number < 0) return std::nullopt;
    value = static_cast<uint64_t>(*number);
  }
  stat.cpu_ticks = saturating_add(ticks[0], ticks[1]);
  stat.children_cpu_ticks = saturating_add(ticks[2], ticks[3]);
  for (int field = 18; field <= 21; ++field) take_word(rest);
  const auto start = to_integer<uint64_t>(take_word(rest));
  if (!start) return std::nullopt;
  stat.start_ticks = *start;
  return stat;
}

std::optional<ProcStatus> parse_status(std::string_view text) {
  ProcStatus status;
  bool complete = false;
  while (!text.empty()) {
    const std::string_view line = take_line(text);
    if (const auto value = value_of(line, "Tgid")) {
      status.tgid = to_integer<pid_t>(*value).value_or(0);
    } else if (const auto ids = value_of(line, "NSpid")) {
      // One for each namespace, outermost first.
      std::string_view words = *ids;
      for (std::string_view w = take_word(words); !w.empty(); w = take_word(words)) {
        status.ns_tid = to_integer<pid_t>(w).value_or(0);
      }
    } else if (const auto cpus = value_of(line, "Cpus_allowed_list")) {
      status.cpus_allowed = count_cpu_list(*cpus);
    } else if (const auto voluntary = value_of(line, "voluntary_ctxt_switches")) {
      status.voluntary_switches = to_integer<uint64_t>(*voluntary).value_or(0);
    } else if (const auto involuntary = value_of(line, "nonvoluntary_ctxt_switches")) {
      // The last line that is used; without it the text has been cut.
      const auto number = to_integer<uint64_t>(*involuntary);
      if (!number) return std::nullopt;
      status.involuntary_switches = *number;
      complete = true;
    }
  }
  if (!complete) return std::nullopt;
  return status;
}

std::optional<SchedStat> parse_schedstat(std::string_view text) {
  const auto cpu = to_integer<uint64_t>(take_word(text));
  const auto wait = to_integer<uint64_t>(take_word(text));
  if (!cpu || !wait) return std::nullopt;
  return SchedStat{*cpu, *wait};
}

std::optional<SyscallState> parse_syscall(std::string_view text) {
  SyscallState state;
  const std::string_view first = take_word(text);
  if (first == "running") return state;
  const auto number = to_integer<int64_t>(first);
  if (!number) return std::nullopt;
  state.number = *number;
  if (*number < 0) {
    state.kind = SyscallState::Kind::kOutsideSyscall;
    return state;
  }
  state.kind = SyscallState::Kind::kInSyscall;
  for (uint64_t& arg : state.args) {
    const auto value = to_hex(take_word(text));
    if (!value) return std::nullopt;
    arg = *value;
  }
  return state;
}

std::string syscall_name(const SyscallState& state) {
  if (state.kind != SyscallState::Kind::kInSyscall) return {};
  struct Name {
    int64_t number;
    std::string_view name;
  };
  static constexpr Name kNames[] = {
      {SYS_read, "read"},
      {SYS_write, "write"},
      {SYS_pread64, "pread"},
      {SYS_pwrite64, "pwrite"},
      {SYS_readv, "readv"},
      {SYS_writev, "writev"},
      {SYS_ppoll, "ppoll"},
      {SYS_pselect6, "pselect"},
      {SYS_epoll_pwait, "epoll_pwait"},
      {SYS_epoll_pwait2, "epoll_pwait2"},
      {SYS_futex, "futex"},
      {SYS_nanosleep, "nanosleep"},
      {SYS_clock_nanosleep, "clock_nanosleep"},
      {SYS_accept, "accept"},
      {SYS_accept4, "accept4"},
      {SYS_connect, "connect"},
      {SYS_recvfrom, "recvfrom"},
      {SYS_recvmsg, "recvmsg"},
      {SYS_sendto, "sendto"},
      {SYS_sendmsg, "sendmsg"},
      {SYS_wait4, "wait4"},
      {SYS_waitid, "waitid"},
      {SYS_flock, "flock"},
      {SYS_fcntl, "fcntl"},
      {SYS_fsync, "fsync"},
      {SYS_fdatasync, "fdatasync"},
      {SYS_openat, "openat"},
      {SYS_io_uring_enter, "io_uring_enter"},
      {SYS_io_getevents, "io_getevents"},
      {SYS_rt_sigtimedwait, "sigtimedwait"},
      {SYS_rt_sigsuspend, "sigsuspend"},
      {SYS_restart_syscall, "restart_syscall"},
      {SYS_exit, "exit"},
      {SYS_exit_group, "exit_group"},
      {SYS_semtimedop, "semtimedop"},
      {SYS_msgrcv, "msgrcv"},
#ifdef SYS_poll
      {SYS_poll, "poll"},
      {SYS_select, "select"},
      {SYS_epoll_wait, "epoll_wait"},
      {SYS_pause, "pause"},
#endif
  };
  for (const Name& entry : kNames) {
    if (entry.number == state.number) return std::string(entry.name);
  }
  return fmt::format("syscall {}", state.number);
}

bool is_untimed_futex(const SyscallState& state) {
  if (state.kind != SyscallState::Kind::kInSyscall || state.number != SYS_futex) return false;
  switch (state.args[1] & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
    case FUTEX_WAIT_REQUEUE_PI:
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
      return state.args[3] == 0;
    default:
      return false;
  }
}

std::optional<uint64_t> parse_io_bytes(std::string_view text) {
  uint64_t total = 0;
  int found = 0;
  while (!text.empty()) {
    const std::string_view line = take_line(text);
    for (const std::string_view key : {"rchar", "wchar", "read_bytes", "write_bytes"}) {
      const auto value = value_of(line, key);
      if (!value) continue;
      const auto number = to_integer<uint64_t>(*value);
      if (!number) return std::nullopt;
      total = saturating_add(total, *number);
      ++found;
    }
  }
  if (found == 0) return std::nullopt;
  return total;
}

std::optional<uint64_t> parse_open_files_limit(std::string_view text) {
  constexpr std::string_view kName = "Max open files";
  while (!text.empty()) {
    std::string_view line = take_line(text);
    if (!line.starts_with(kName)) continue;
    line.remove_prefix(kName.size());
    const std::string_view soft = take_word(line);
    if (soft == "unlimited") return 0;
    return to_integer<uint64_t>(soft);
  }
  return std::nullopt;
}

std::vector<pid_t> parse_children(std::string_view text) {
  std::vector<pid_t> children;
  while (children.size() < children_max) {
    const std::string_view word = take_word(text);
    if (word.empty()) break;
    const auto pid = to_integer<pid_t>(word);
    if (pid && *pid > 0) children.push_back(*pid);
  }
  return children;
}

std::optional<uint64_t> parse_socket_link(std::string_view link) {
  constexpr std::string_view kPrefix = "socket:[";
  if (!link.starts_with(kPrefix) || !link.ends_with(']')) return std::nullopt;
  return to_integer<uint64_t>(link.substr(kPrefix.size(), link.size() - kPrefix.size() - 1));
}

CgroupPaths parse_cgroup(std::string_view text) {
  CgroupPaths paths;
  while (!text.empty()) {
    // "4:cpu,cpuacct:/path" or, for the unified hierarchy, "0::/path".
    std::string_view line = take_line(text);
    const size_t first = line.find(':');
    if (first == std::string_view::npos) continue;
    const size_t second = line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    std::string_view controllers = line.substr(first + 1, second - first - 1);
    const std::string path(line.substr(second + 1));
    if (controllers.empty()) paths.unified = path;
    while (!controllers.empty()) {
      const size_t comma = controllers.find(',');
      const std::string_view name = controllers.substr(0, comma);
      controllers.remove_prefix(comma == std::string_view::npos ? controllers.size() : comma + 1);
      if (name == "memory") paths.memory = path;
      if (name == "cpu") paths.cpu = path;
    }
  }
  return paths;
}

std::optional<uint64_t> parse_keyed_counter(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    std::string_view line = take_line(text);
    if (take_word(line) == key) return to_integer<uint64_t>(take_word(line));
  }
  return std::nullopt;
}

std::optional<double> parse_cpu_max(std::string_view text) {
  const auto quota = to_integer<uint64_t>(take_word(text));  // "max" is no number: no quota
  const auto period = to_integer<uint64_t>(take_word(text));
  if (!quota || !period || *period == 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

std::optional<int64_t> parse_integer(std::string_view text) {
  return to_integer<int64_t>(take_word(text));
}

std::string find_mapping(std::string_view maps, uint64_t address) {
  while (!maps.empty()) {
    std::string_view line = take_line(maps);
    const std::string_view range = take_word(line);
    const size_t dash = range.find('-');
    if (dash == std::string_view::npos) continue;
    const auto begin = to_hex(range.substr(0, dash));
    const auto end = to_hex(range.substr(dash + 1));
    if (!begin || !end || address < *begin || address >= *end) continue;
    take_word(line);  // permissions
    const uint64_t offset = to_hex(take_word(line)).value_or(0);
    take_word(line);  // device
    take_word(line);  // inode
    while (!line.empty() && is_blank(line.front())) line.remove_prefix(1);
    if (line.empty()) return "anonymous memory";
    if (line.front() == '[') return printable(line);
    return fmt::format("{}+0x{:x}", printable(file_name(line)), address - *begin + offset);
  }
  return {};
}

}  // namespace remora
