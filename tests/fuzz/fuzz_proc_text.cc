// Any bytes as what the kernel might show under /proc: the first says which file it is. Never a
// crash, and what comes out keeps the promises of proc_text.h.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "sidecar/health/proc_text.h"

namespace {

using namespace remora;  // NOLINT(google-build-using-namespace)

void must(bool ok) {
  if (!ok) std::abort();
}

bool is_printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
}

void check_stat(std::string_view text) {
  const auto stat = parse_stat(text);
  if (!stat) return;
  must(stat->tid > 0 && is_printable(stat->comm) && is_printable({&stat->state, 1}));
  must(stat->comm.size() < text.size());
}

void check_syscall(std::string_view text) {
  const auto state = parse_syscall(text);
  if (!state) return;
  const bool inside = state->kind == SyscallState::Kind::kInSyscall;
  must(inside == (state->number >= 0));
  must(inside == !syscall_name(*state).empty());
  must(inside || !is_untimed_futex(*state));
}

void check_cgroup(std::string_view text) {
  const CgroupPaths paths = parse_cgroup(text);
  for (const auto& path : {paths.unified, paths.memory, paths.cpu}) {
    must(!path || path->find('\n') == std::string::npos);
  }
  parse_keyed_counter(text, "oom_kill");
  const auto cpus = parse_cpu_max(text);
  must(!cpus || *cpus >= 0);
  parse_integer(text);
}

void check_children(std::string_view text) {
  const auto children = parse_children(text);
  must(children.size() <= children_max);
  must(std::ranges::all_of(children, [](pid_t pid) { return pid > 0; }));
}

void check_maps(std::string_view text) {
  for (const uint64_t address : {uint64_t{0}, uint64_t{0x7f33a49b6ab0}, ~uint64_t{0}}) {
    must(is_printable(find_mapping(text, address)));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 's':
      check_stat(text);
      break;
    case 't':
      if (const auto status = parse_status(text)) must(status->cpus_allowed <= 1u << 16);
      break;
    case 'y':
      check_syscall(text);
      break;
    case 'c':
      check_children(text);
      break;
    case 'g':
      check_cgroup(text);
      break;
    case 'm':
      check_maps(text);
      break;
    default:
      parse_schedstat(text);
      parse_io_bytes(text);
      parse_open_files_limit(text);
      parse_socket_link(text);
  }
  return 0;
}
