#include "sidecar/health/deadlock.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <set>

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "sidecar/base/handle.h"
#include "sidecar/health/proc_text.h"
#include "sidecar/health/process.h"

namespace remora {
namespace {

// glibc, x86_64: struct __pthread_mutex_s, struct __pthread_rwlock_arch_t and struct pthread.
constexpr uint64_t kMutexOwner = 8;
constexpr uint64_t kMutexUsers = 12;
constexpr uint64_t kMutexKind = 16;
constexpr uint32_t kRwlockWritten = 3;  // in its first word: write phase, locked by a writer
constexpr uint64_t kRwlockPhaseFutex = 8;
constexpr uint64_t kRwlockWritersFutex = 12;
constexpr uint64_t kRwlockCurrentWriter = 24;
constexpr uint64_t kDescriptorSelf = 16;  // a pointer to the descriptor itself
constexpr uint64_t kDescriptorTid = 720;
constexpr uint32_t kRobustKind = 16;
constexpr uint32_t kKnownKindBits = 0x1FF;  // type, robust, PI, protect, elision, shared

struct Thread {
  pid_t tid = 0;     // in our PID namespace
  pid_t ns_tid = 0;  // in the agent's: what locks hold
  std::string name;
  uint64_t switches = 0;
  bool untimed_futex = false;
  bool waits = false;  // on a futex, with or without a limit
  uint64_t futex = 0;
};

// Docker's seccomp profile (20.10) refuses process_vm_readv to those without SYS_PTRACE. The kernel
// asks the same of who opens this file, so with it nothing is seen that may not be.
template <typename Word>
std::optional<Word> read_word_from_file(pid_t pid, uint64_t address) {
  const std::string path = "/proc/" + std::to_string(pid) + "/mem";
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  Word word = 0;
  if (!file || ::pread(file.get(), &word, sizeof word, static_cast<off_t>(address)) !=
                   static_cast<ssize_t>(sizeof word)) {
    return std::nullopt;
  }
  return word;
}

template <typename Word = uint32_t>
std::optional<Word> read_word(pid_t pid, uint64_t address) {
  Word word = 0;
  iovec local{&word, sizeof word};
  // NOLINTNEXTLINE(performance-no-int-to-ptr): an address in another process
  iovec remote{reinterpret_cast<void*>(address), sizeof word};
  const ssize_t got = ::process_vm_readv(pid, &local, 1, &remote, 1, 0);
  if (got == static_cast<ssize_t>(sizeof word)) return word;
  if (got < 0 && (errno == EPERM || errno == ENOSYS))
    return read_word_from_file<Word>(pid, address);
  return std::nullopt;
}

std::vector<Thread> read_threads(const std::string& proc, pid_t pid) {
  std::vector<Thread> threads;
  const std::string tasks = proc + "/" + std::to_string(pid) + "/task";
  for (const int tid : list_numbers(tasks)) {
    if (threads.size() >= threads_read_max) break;
    const std::string task = tasks + "/" + std::to_string(tid);
    const auto status_text = read_small_file(task + "/status");
    const auto stat_text = read_small_file(task + "/stat");
    const auto status = status_text ? parse_status(*status_text) : std::nullopt;
    const auto stat = stat_text ? parse_stat(*stat_text) : std::nullopt;
    if (!status || !stat) continue;
    Thread thread;
    thread.tid = tid;
    thread.ns_tid = status->ns_tid != 0 ? status->ns_tid : tid;
    thread.name = stat->comm;
    thread.switches = status->voluntary_switches + status->involuntary_switches;
    const auto syscall_text = read_small_file(task + "/syscall");
    const auto state = syscall_text ? parse_syscall(*syscall_text) : std::nullopt;
    if (state && state->kind == SyscallState::Kind::kInSyscall && state->number == SYS_futex) {
      thread.waits = true;
      thread.futex = state->args[0];
      thread.untimed_futex = is_untimed_futex(*state);
    }
    threads.push_back(std::move(thread));
  }
  return threads;
}

struct Holder {
  std::string kind;
  uint64_t lock = 0;
  pid_t ns_tid = 0;
};

// Who holds what is waited for at this futex; owners outside `known` are no owners.
std::optional<Holder> find_holder(pid_t pid, uint64_t futex, pid_t waiter,
                                  const std::set<pid_t>& known) {
  const auto is_thread = [&](uint32_t tid) {
    return tid != 0 && static_cast<pid_t>(tid) != waiter && known.contains(static_cast<pid_t>(tid));
  };
  const auto word = read_word(pid, futex);
  if (!word) return std::nullopt;
  const auto kind = read_word(pid, futex + kMutexKind);
  const bool plausible_kind = kind && (*kind & ~kKnownKindBits) == 0;
  const auto held_by = static_cast<uint32_t>(*word & FUTEX_TID_MASK);
  if (plausible_kind && (*kind & kRobustKind) != 0 && is_thread(held_by)) {
    return Holder{"robust mutex", futex, static_cast<pid_t>(held_by)};
  }
  if (plausible_kind && (*word == 1 || *word == 2)) {
    const auto owner = read_word(pid, futex + kMutexOwner);
    const auto users = read_word(pid, futex + kMutexUsers);
    if (owner && is_thread(*owner) && users && *users != 0) {
      return Holder{"mutex", futex, static_cast<pid_t>(*owner)};
    }
  }
  for (const uint64_t offset : {kRwlockPhaseFutex, kRwlockWritersFutex}) {
    const uint64_t base = futex - offset;
    const auto readers = read_word(pid, base);
    const auto writer = read_word(pid, base + kRwlockCurrentWriter);
    const bool written = readers && (*readers & kRwlockWritten) == kRwlockWritten;
    if (written && writer && is_thread(*writer))
      return Holder{"rwlock", base, static_cast<pid_t>(*writer)};
  }
  // A number that looks like a TID is none: many locks count in their futex word.
  const uint64_t descriptor = futex - kDescriptorTid;
  if (is_thread(*word) && read_word<uint64_t>(pid, descriptor + kDescriptorSelf) == descriptor) {
    return Holder{"join", futex, static_cast<pid_t>(*word)};
  }
  return std::nullopt;
}

// Locks were read after the threads. If none of a cycle's threads has run since, each waited all
// the while, and could neither take nor release anything.
bool has_run_since(const std::string& proc, pid_t pid, const std::vector<DeadlockEdge>& cycle) {
  return !std::ranges::all_of(cycle, [&](const DeadlockEdge& edge) {
    const auto text = read_small_file(proc + "/" + std::to_string(pid) + "/task/" +
                                      std::to_string(edge.tid) + "/status");
    const auto status = text ? parse_status(*text) : std::nullopt;
    return status && status->voluntary_switches + status->involuntary_switches == edge.switches;
  });
}

}  // namespace

std::vector<DeadlockEdge> find_cycle(const std::map<pid_t, DeadlockEdge>& waits) {
  std::set<pid_t> finished;
  for (const auto& [start, first] : waits) {
    std::vector<pid_t> path;
    pid_t at = start;
    while (waits.contains(at) && !finished.contains(at)) {
      const auto seen = std::ranges::find(path, at);
      if (seen == path.end()) {
        path.push_back(at);
        at = waits.at(at).owner_tid;
        continue;
      }
      std::vector<DeadlockEdge> cycle;
      for (auto it = seen; it != path.end(); ++it) cycle.push_back(waits.at(*it));
      std::ranges::rotate(cycle, std::ranges::min_element(cycle, {}, &DeadlockEdge::tid));
      return cycle;
    }
    finished.insert(path.begin(), path.end());
  }
  return {};
}

DeadlockSample read_deadlock(const std::string& proc_root, pid_t pid) {
  DeadlockSample sample;
  sample.pid = pid;
  const std::vector<Thread> threads = read_threads(proc_root, pid);
  sample.threads = static_cast<uint32_t>(threads.size());
  sample.all_untimed_futex =
      !threads.empty() && std::ranges::all_of(threads, &Thread::untimed_futex);
  std::set<pid_t> known;
  for (const Thread& thread : threads) known.insert(thread.ns_tid);
  std::map<pid_t, DeadlockEdge> waits;
  for (const Thread& thread : threads) {
    if (!thread.untimed_futex) continue;
    const auto holder = find_holder(pid, thread.futex, thread.ns_tid, known);
    if (!holder) continue;
    const auto owner = std::ranges::find(threads, holder->ns_tid, &Thread::ns_tid);
    waits[thread.tid] = {.tid = thread.tid,
                         .thread_name = thread.name,
                         .lock_kind = holder->kind,
                         .lock_address = holder->lock,
                         .lock_place = {},
                         .owner_tid = owner->tid,
                         .owner_name = owner->name,
                         .switches = thread.switches};
  }
  sample.cycle = find_cycle(waits);
  if (has_run_since(proc_root, pid, sample.cycle)) sample.cycle.clear();
  if (sample.cycle.empty()) return sample;
  const auto maps = read_small_file(proc_root + "/" + std::to_string(pid) + "/maps");
  for (DeadlockEdge& edge : sample.cycle) {
    if (maps) edge.lock_place = find_mapping(*maps, edge.lock_address);
  }
  return sample;
}

}  // namespace remora
