#include "sidecar/health/process_tree.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sidecar/base/handle.h"

namespace remora {
namespace {

constexpr size_t processes_max = 65'536;
// A process with a larger environment than this could hide its mark at the end of it.
constexpr size_t environment_bytes_max = 4 << 20;

template <typename Number>
std::optional<Number> parse_number(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// proc_pid_stat(5): "PID (comm) S ppid pgrp session …", start time in field 22. The name may hold
// anything, parentheses too; what follows the last one is numbers.
std::optional<ProcessEntry> parse_entry(pid_t pid, std::string_view text) {
  const size_t name_end = text.rfind(')');
  if (name_end == std::string_view::npos) return std::nullopt;
  text.remove_prefix(name_end + 1);
  std::array<std::string_view, 20> fields;  // from the third on
  size_t count = 0;
  while (count < fields.size()) {
    const size_t begin = text.find_first_not_of(" \n");
    if (begin == std::string_view::npos) return std::nullopt;
    const size_t end = std::min(text.find_first_of(" \n", begin), text.size());
    fields[count++] = text.substr(begin, end - begin);
    text.remove_prefix(end);
  }
  const auto parent = parse_number<pid_t>(fields[1]);
  const auto group = parse_number<pid_t>(fields[2]);
  const auto session = parse_number<pid_t>(fields[3]);
  const auto start = parse_number<uint64_t>(fields[19]);
  if (!parent || !group || !session || !start) return std::nullopt;
  return ProcessEntry{pid, *parent, *group, *session, fields[0].front(), *start};
}

std::optional<ProcessEntry> read_entry(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/stat";
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return std::nullopt;
  std::array<char, 1024> text{};
  const ssize_t n = ::read(file.get(), text.data(), text.size());
  if (n <= 0) return std::nullopt;
  return parse_entry(pid, {text.data(), static_cast<size_t>(n)});
}

bool same_process(const ProcessEntry& a, const ProcessEntry& b) {
  return a.pid == b.pid && a.start_ticks == b.start_ticks;
}

}  // namespace

std::vector<ProcessEntry> list_processes() {
  std::vector<ProcessEntry> found;
  const CHandle<DIR, closedir> directory(::opendir("/proc"));
  if (directory == nullptr) return found;
  while (const dirent* item = ::readdir(directory.get())) {
    const auto pid = parse_number<pid_t>(item->d_name);
    if (!pid || found.size() == processes_max) continue;
    if (const auto entry = read_entry(*pid)) found.push_back(*entry);
  }
  return found;
}

// proc_uptime(5): "12345.67 …", always with two decimals.
uint64_t ticks_since_boot() {
  const UniqueFd file(::open("/proc/uptime", O_RDONLY | O_CLOEXEC));
  std::array<char, 64> bytes{};
  const ssize_t n = file ? ::read(file.get(), bytes.data(), bytes.size()) : -1;
  if (n <= 0) return 0;
  std::string_view text(bytes.data(), static_cast<size_t>(n));
  text = text.substr(0, text.find(' '));
  const size_t point = text.find('.');
  const auto seconds = parse_number<uint64_t>(text.substr(0, point));
  const auto hundredths =
      point == std::string_view::npos ? 0 : parse_number<uint64_t>(text.substr(point + 1));
  if (!seconds || !hundredths) return 0;
  return (*seconds * 100 + *hundredths) * ticks_per_second() / 100;
}

uint64_t ticks_per_second() { return static_cast<uint64_t>(::sysconf(_SC_CLK_TCK)); }

bool signal_process(const ProcessEntry& entry, int signo) {
  // The descriptor pins the process; what it pinned is checked before it is signalled.
  const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, entry.pid, 0)));
  if (!pidfd) return false;
  const auto now = read_entry(entry.pid);
  if (!now || !same_process(*now, entry)) return false;
  return ::syscall(SYS_pidfd_send_signal, pidfd.get(), signo, nullptr, 0) == 0;
}

bool environment_holds(pid_t pid, std::string_view entry) {
  const std::string path = "/proc/" + std::to_string(pid) + "/environ";
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return false;
  std::string text(1, '\0');
  std::array<char, 16 * 1024> piece{};
  ssize_t n = 0;
  while (text.size() < environment_bytes_max &&
         (n = ::read(file.get(), piece.data(), piece.size())) > 0) {
    text.append(piece.data(), static_cast<size_t>(n));
  }
  std::string wanted(1, '\0');
  wanted.append(entry).push_back('\0');
  return text.find(wanted) != std::string::npos;
}

std::vector<ProcessEntry> find_family(std::span<const ProcessEntry> processes, pid_t agent,
                                      pid_t self, std::string_view mark,
                                      std::span<const ProcessEntry> remembered) {
  const auto is_root = [&](const ProcessEntry& p) {
    if (p.session == agent || p.group == agent || p.parent == agent) return true;
    if (std::any_of(remembered.begin(), remembered.end(),
                    [&p](const ProcessEntry& r) { return same_process(p, r); })) {
      return true;
    }
    return p.parent == self && environment_holds(p.pid, mark);
  };
  std::unordered_set<pid_t> family;
  for (const ProcessEntry& p : processes) {
    if (p.pid != self && p.pid != agent && is_root(p)) family.insert(p.pid);
  }
  // A parent may be listed after its child: again until nothing is added.
  for (bool grew = !family.empty(); grew;) {
    grew = false;
    for (const ProcessEntry& p : processes) {
      if (p.pid != self && p.pid != agent && family.contains(p.parent)) {
        grew = family.insert(p.pid).second || grew;
      }
    }
  }
  std::vector<ProcessEntry> found;
  for (const ProcessEntry& p : processes) {
    if (family.contains(p.pid)) found.push_back(p);
  }
  return found;
}

}  // namespace remora
