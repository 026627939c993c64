#include "sidecar/health/process.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <set>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sidecar/base/handle.h"
#include "sidecar/health/proc_text.h"
#include "sidecar/health/socket_table.h"
#include "sidecar/net/socket_address.h"

namespace remora {
namespace {

constexpr size_t kFileBytesMax = 256 * 1024;
// An acknowledgement is held back for 200 ms at most; keep-alives come no sooner than after 1 s.
constexpr uint32_t kAckDelayMsMax = 500;

std::string path_of(const std::string& root, pid_t pid, std::string_view name) {
  return root + "/" + std::to_string(pid) + "/" + std::string(name);
}

std::string link_target(const std::string& path) {
  char target[256];
  const ssize_t n = ::readlink(path.c_str(), target, sizeof target);
  return n > 0 ? std::string(target, static_cast<size_t>(n)) : std::string();
}

uint64_t ticks_to_ns(uint64_t ticks) {
  static const auto per_second = static_cast<uint64_t>(::sysconf(_SC_CLK_TCK));
  return ticks * (1'000'000'000 / per_second);
}

// Sent something later than it received anything. The kernel counts in ticks of some ms, and a
// request often leaves in the same tick as the connection opens or the answer before it came in:
// then the acknowledgement of the request, which comes alone, tells it from an answer.
bool sent_last(const TcpFacts& facts) {
  if (facts.bytes_sent == 0) return false;
  if (facts.last_data_sent_ms != facts.last_data_received_ms) {
    return facts.last_data_sent_ms < facts.last_data_received_ms;
  }
  if (facts.bytes_received == 0) return true;
  return facts.last_ack_received_ms < facts.last_data_received_ms &&
         facts.last_data_received_ms - facts.last_ack_received_ms <= kAckDelayMsMax;
}

// "socket:[4711]"
std::optional<uint64_t> socket_inode(std::string_view target) {
  constexpr std::string_view prefix = "socket:[";
  if (!target.starts_with(prefix)) return std::nullopt;
  uint64_t inode = 0;
  const char* const begin = target.data() + prefix.size();
  const auto parsed = std::from_chars(begin, target.data() + target.size(), inode);
  return parsed.ec == std::errc() ? std::optional(inode) : std::nullopt;
}

// The socket behind a copied descriptor; nullopt: none of TCP.
std::optional<TcpSocket> tcp_socket_of(int fd) {
  tcp_info info{};
  socklen_t length = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return std::nullopt;
  const Result<SocketAddress> local = local_address(fd);
  if (!local) return std::nullopt;
  TcpSocket socket;
  socket.local_port = local->port();
  socket.facts = tcp_facts(info);
  sockaddr_storage peer{};
  length = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0) {
    socket.peer = SocketAddress(reinterpret_cast<sockaddr*>(&peer), length);
  }
  return socket;
}

// A quota may exceed the CPUs that there are to use.
void limit_cpus(ProgressSample& sample, double quota) {
  sample.cpus_available =
      sample.cpus_available > 0 ? std::min(sample.cpus_available, quota) : quota;
}

// The process or the thing asked for has gone since: nothing is hidden from us.
bool has_gone(int error) { return error == ENOENT || error == ESRCH; }

}  // namespace

std::optional<std::string> read_small_file(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return std::nullopt;
  std::string text;
  char bytes[4096];
  while (text.size() < kFileBytesMax) {
    const ssize_t n = ::read(fd.get(), bytes, sizeof bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return std::nullopt;
    if (n == 0) break;
    text.append(bytes, static_cast<size_t>(n));
  }
  return text;
}

std::vector<int> list_numbers(const std::string& directory) {
  std::vector<int> numbers;
  const CHandle<DIR, ::closedir> dir(::opendir(directory.c_str()));
  if (dir == nullptr) return numbers;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string_view name = entry->d_name;
    if (name.empty() || name.size() > 9 ||
        name.find_first_not_of("0123456789") != std::string_view::npos) {
      continue;
    }
    int number = 0;
    std::from_chars(name.data(), name.data() + name.size(), number);  // fits: 9 digits
    numbers.push_back(number);
  }
  std::ranges::sort(numbers);
  return numbers;
}

void ProcessReader::degrade(ProgressSample& sample, const std::string& what) {
  const std::string text = what + ": " + std::strerror(errno);
  if (std::ranges::find(sample.degraded, text) == sample.degraded.end()) {
    sample.degraded.push_back(text);
  }
}

void ProcessReader::read(pid_t pid, bool detailed, ProgressSample& sample) {
  find_processes(pid);
  for (const pid_t process : processes_) read_process(process, detailed, sample);
  if (sample.process_seen) {
    const auto text = read_small_file(path_of(proc_, pid, "status"));
    const auto status = text ? parse_status(*text) : std::nullopt;
    if (status) sample.cpus_available = status->cpus_allowed;
    read_cgroup(pid, sample);
  }
  std::ranges::sort(sample.outbound, std::ranges::greater{}, &OutboundCall::pending_for);
  if (sample.outbound.size() > outbound_shown_max) sample.outbound.resize(outbound_shown_max);
}

// The agent, what is below it, and what it orphaned: that is below us (we are the subreaper) but
// still in its group.
void ProcessReader::find_processes(pid_t pid) {
  processes_.assign(1, pid);
  const auto children_of = [&](const std::string& process) {
    std::vector<pid_t> children;
    for (const int tid : list_numbers(proc_ + "/" + process + "/task")) {
      const auto text =
          read_small_file(proc_ + "/" + process + "/task/" + std::to_string(tid) + "/children");
      if (!text) continue;
      for (const pid_t child : parse_children(*text)) children.push_back(child);
    }
    return children;
  };
  const auto add = [&](pid_t child) {
    if (processes_.size() < processes_read_max &&
        std::ranges::find(processes_, child) == processes_.end()) {
      processes_.push_back(child);
    }
  };
  for (const pid_t child : children_of("self")) {
    const auto text = read_small_file(path_of(proc_, child, "stat"));
    const auto stat = text ? parse_stat(*text) : std::nullopt;
    if (stat && stat->pgrp == pid) add(child);
  }
  // NOLINTNEXTLINE(modernize-loop-convert): it grows while it is walked
  for (size_t i = 0; i < processes_.size(); ++i) {
    for (const pid_t child : children_of(std::to_string(processes_[i]))) add(child);
  }
}

void ProcessReader::read_process(pid_t pid, bool detailed, ProgressSample& sample) {
  const auto stat_text = read_small_file(path_of(proc_, pid, "stat"));
  const auto stat = stat_text ? parse_stat(*stat_text) : std::nullopt;
  if (!stat) return;
  if (stat->state == 'Z') {
    // It has ended. Until its parent waits for it, nobody else counts its CPU time.
    if (pid != processes_.front()) {
      sample.cpu_ns += ticks_to_ns(stat->cpu_ticks + stat->children_cpu_ticks);
    }
    return;
  }
  sample.process_seen = true;
  ++sample.processes;
  // With children that have ended: short commands are over before a sample sees them.
  sample.cpu_ns += ticks_to_ns(stat->cpu_ticks + stat->children_cpu_ticks);
  if (const auto io = read_small_file(path_of(proc_, pid, "io"))) {
    sample.io_bytes += parse_io_bytes(*io).value_or(0);
  } else if (!has_gone(errno)) {
    degrade(sample, "io");
  }
  read_run_queue(pid, sample);
  if (!detailed) return;
  read_threads(pid, sample);
  read_descriptors(pid, sample);
}

void ProcessReader::read_run_queue(pid_t pid, ProgressSample& sample) {
  for (const int tid : list_numbers(path_of(proc_, pid, "task"))) {
    if (++sample.threads_total > threads_read_max) return;
    const auto text =
        read_small_file(path_of(proc_, pid, "task/" + std::to_string(tid) + "/schedstat"));
    const auto sched = text ? parse_schedstat(*text) : std::nullopt;
    if (sched) sample.runqueue_wait_ns += sched->runqueue_wait_ns;
  }
}

void ProcessReader::read_threads(pid_t pid, ProgressSample& sample) {
  for (const int tid : list_numbers(path_of(proc_, pid, "task"))) {
    if (sample.threads.size() >= threads_shown_max) return;
    const std::string task = path_of(proc_, pid, "task/" + std::to_string(tid));
    const auto stat_text = read_small_file(task + "/stat");
    const auto stat = stat_text ? parse_stat(*stat_text) : std::nullopt;
    if (!stat) continue;
    ThreadState thread{
        .pid = pid, .tid = tid, .name = stat->comm, .state = stat->state, .waits_in = {}};
    if (const auto text = read_small_file(task + "/syscall")) {
      if (const auto state = parse_syscall(*text)) {
        thread.waits_in = syscall_name(*state);
        thread.untimed_futex = is_untimed_futex(*state);
      }
    } else if (!has_gone(errno)) {
      degrade(sample, "syscall");
    }
    sample.threads.push_back(std::move(thread));
  }
}

void ProcessReader::read_descriptors(pid_t pid, ProgressSample& sample) {
  const std::string directory = path_of(proc_, pid, "fd");
  const std::vector<int> fds = list_numbers(directory);
  if (fds.empty() && ::access(directory.c_str(), R_OK | X_OK) != 0) {
    if (!has_gone(errno)) degrade(sample, "fd");
    return;
  }
  std::vector<OpenSocket> sockets;
  for (const int fd : fds) {
    const std::string target = link_target(directory + "/" + std::to_string(fd));
    if (const auto inode = socket_inode(target); inode && sockets.size() < sockets_read_max) {
      sockets.push_back({fd, *inode});
    }
    if (target == "anon_inode:[eventpoll]" && pid == processes_.front()) {
      sample.has_event_loop = true;
    }
  }
  const auto limits = read_small_file(path_of(proc_, pid, "limits"));
  const uint64_t limit = limits ? parse_open_files_limit(*limits).value_or(0) : 0;
  const auto open = static_cast<uint32_t>(fds.size());
  // The process nearest to its limit speaks for all.
  if (limit > 0 && (sample.fds_max == 0 || open * sample.fds_max > sample.fds_open * limit)) {
    sample.fds_open = open;
    sample.fds_max = limit;
  }
  if (!sockets.empty()) read_sockets(pid, sockets, sample);
}

void ProcessReader::read_sockets(pid_t pid, const std::vector<OpenSocket>& open,
                                 ProgressSample& sample) {
  const auto sockets =
      copies_allowed_ ? sockets_by_copy(pid, open, sample) : sockets_by_listing(pid, open, sample);
  if (!sockets) return;
  std::set<uint16_t> listening;
  for (const TcpSocket& socket : *sockets) {
    if (socket.facts.state != tcp_listen) continue;
    listening.insert(socket.local_port);
    sample.accept_backlog = std::max(sample.accept_backlog, socket.facts.backlog);
  }
  for (const TcpSocket& socket : *sockets) {
    // Else it is a caller's, or one that only waits for them.
    if (!listening.contains(socket.local_port)) judge_connection(pid, socket, sample);
  }
  if (seen_.size() > 4 * sockets_read_max) seen_.clear();
}

// nullopt: not to be seen.
std::optional<std::vector<TcpSocket>> ProcessReader::sockets_by_copy(
    pid_t pid, const std::vector<OpenSocket>& open, ProgressSample& sample) {
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process) {
    if (!has_gone(errno)) degrade(sample, "sockets");
    return std::nullopt;
  }
  std::vector<TcpSocket> sockets;
  for (const OpenSocket& one : open) {
    const UniqueFd copy(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), one.fd, 0)));
    if (!copy && (errno == EPERM || errno == ENOSYS)) {
      copies_allowed_ = false;
      return sockets_by_listing(pid, open, sample);
    }
    auto socket = copy ? tcp_socket_of(copy.get()) : std::nullopt;
    if (!socket) continue;
    socket->inode = one.inode;
    sockets.push_back(std::move(*socket));
  }
  return sockets;
}

std::optional<std::vector<TcpSocket>> ProcessReader::sockets_by_listing(
    pid_t pid, const std::vector<OpenSocket>& open, ProgressSample& sample) {
  // We are shown our own network namespace only.
  struct stat theirs{};
  struct stat ours{};
  if (::stat(path_of(proc_, pid, "ns/net").c_str(), &theirs) != 0 ||
      ::stat((proc_ + "/self/ns/net").c_str(), &ours) != 0) {
    if (!has_gone(errno)) degrade(sample, "sockets");
    return std::nullopt;
  }
  if (theirs.st_ino != ours.st_ino || theirs.st_dev != ours.st_dev) {
    sample.degraded.emplace_back("sockets: in another network namespace");
    return std::nullopt;
  }
  Result<std::vector<TcpSocket>> all = list_tcp_sockets();
  if (!all) {
    sample.degraded.push_back(all.error().message);
    return std::nullopt;
  }
  std::set<uint64_t> inodes;
  for (const OpenSocket& one : open) inodes.insert(one.inode);
  std::erase_if(*all, [&](const TcpSocket& socket) { return !inodes.contains(socket.inode); });
  return std::move(*all);
}

void ProcessReader::judge_connection(pid_t pid, const TcpSocket& socket, ProgressSample& sample) {
  const TcpFacts& facts = socket.facts;
  const std::string peer = socket.peer.length() > 0 ? socket.peer.to_string() : "(connecting)";
  const std::string key = fmt::format("{}:{} {}", pid, socket.inode, peer);
  const Seen before = seen_[key];
  // Once it awaits an answer, it does so until another byte goes one way or the other.
  const bool awaiting =
      sent_last(facts) || (before.awaiting && before.bytes_sent == facts.bytes_sent &&
                           before.bytes_received == facts.bytes_received);
  seen_[key] = {facts.bytes_sent, facts.bytes_received, awaiting};
  const auto ms = [](uint32_t n) { return std::chrono::milliseconds(n); };
  if (facts.state == tcp_syn_sent) {
    // The times mean nothing yet. The first tries are 1 s apart, later ones more: at least so
    // long.
    sample.outbound.push_back(
        {peer, OutboundCall::State::kConnecting, std::chrono::seconds(facts.retransmits)});
  } else if (facts.state != tcp_established) {
    return;
  } else if (awaiting) {
    sample.outbound.push_back({peer, OutboundCall::State::kAwaiting, ms(facts.last_data_sent_ms)});
  } else if (before.bytes_received > 0 && facts.bytes_received > before.bytes_received) {
    sample.outbound.push_back(
        {peer, OutboundCall::State::kStreaming, ms(facts.last_data_received_ms)});
  }
}

void ProcessReader::read_cgroup(pid_t pid, ProgressSample& sample) {
  const auto text = read_small_file(path_of(proc_, pid, "cgroup"));
  if (!text) return;
  const CgroupPaths paths = parse_cgroup(*text);
  const auto counter = [](const std::optional<std::string>& file, std::string_view key) {
    return file ? parse_keyed_counter(*file, key) : std::nullopt;
  };
  if (paths.unified) {
    const std::string base = cgroup_ + *paths.unified;
    const auto stat = read_small_file(base + "/cpu.stat");
    if (const auto us = counter(stat, "throttled_usec")) {
      sample.throttled = std::chrono::microseconds(*us);
    }
    sample.oom_kills = counter(read_small_file(base + "/memory.events"), "oom_kill").value_or(0);
    if (const auto quota = read_small_file(base + "/cpu.max")) {
      if (const auto cpus = parse_cpu_max(*quota)) limit_cpus(sample, *cpus);
    }
  }
  if (paths.cpu) {
    const std::string base = cgroup_ + "/cpu" + *paths.cpu;
    if (const auto ns = counter(read_small_file(base + "/cpu.stat"), "throttled_time")) {
      sample.throttled = Duration(static_cast<int64_t>(*ns));
    }
    const auto quota = read_small_file(base + "/cpu.cfs_quota_us");
    const auto period = read_small_file(base + "/cpu.cfs_period_us");
    const auto quota_us = quota ? parse_integer(*quota) : std::nullopt;
    const auto period_us = period ? parse_integer(*period) : std::nullopt;
    if (quota_us && period_us && *quota_us > 0 && *period_us > 0) {
      limit_cpus(sample, static_cast<double>(*quota_us) / static_cast<double>(*period_us));
    }
  }
  if (paths.memory) {
    const auto control =
        read_small_file(cgroup_ + "/memory" + *paths.memory + "/memory.oom_control");
    sample.oom_kills = counter(control, "oom_kill").value_or(sample.oom_kills);
  }
}

}  // namespace remora
