#include "sidecar/pod/pidfd_exit.h"

#include <array>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "sidecar/base/handle.h"

namespace remora {
namespace {

// linux/pidfd.h, newer than Debian 12's headers: the first version of the struct, 64 bytes.
struct PidfdInfo {
  uint64_t mask;
  uint64_t cgroup_id;
  uint32_t pid, tgid, ppid;
  uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exit_code;
};
static_assert(sizeof(PidfdInfo) == 64);
constexpr uint64_t pidfd_info_exit = 1 << 3;

// proc_pid_stat(5): field 3 is the state, field 52 the exit status, shown to those who may trace
// it (0 to others, which a zombie's state tells apart from a clean end only for the former).
std::optional<int> status_of_zombie(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/stat";
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return std::nullopt;
  std::array<char, 1024> text{};
  const ssize_t n = ::read(file.get(), text.data(), text.size());
  if (n <= 0) return std::nullopt;
  std::string_view rest(text.data(), static_cast<size_t>(n));
  const size_t name_end = rest.rfind(") ");
  if (name_end == std::string_view::npos) return std::nullopt;
  rest.remove_prefix(name_end + 2);
  if (!rest.starts_with('Z')) return std::nullopt;
  const size_t last = rest.find_last_not_of("\n ");
  if (last == std::string_view::npos) return std::nullopt;
  rest = rest.substr(0, last + 1);
  rest.remove_prefix(rest.rfind(' ') + 1);
  int status = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), status);
  if (error != std::errc() || end != rest.data() + rest.size()) return std::nullopt;
  return status;
}

}  // namespace

std::optional<int> wait_status_of(int pidfd, pid_t pid) {
  PidfdInfo info{};
  info.mask = pidfd_info_exit;
  if (::ioctl(pidfd, _IOWR(0xFF, 11, PidfdInfo), &info) == 0 &&
      (info.mask & pidfd_info_exit) != 0) {
    return info.exit_code;
  }
  const std::optional<int> status = status_of_zombie(pid);
  // 0 may only mean that we were not let in.
  const std::string memory = "/proc/" + std::to_string(pid) + "/fdinfo";
  if (status == 0 && ::access(memory.c_str(), R_OK) != 0) return std::nullopt;
  return status;
}

}  // namespace remora
