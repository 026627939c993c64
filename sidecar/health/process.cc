#include "sidecar/health/process.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <set>

#include <dirent.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sidecar/base/handle.h"
#include "sidecar/health/proc_text.h"
#include "sidecar/net/socket_address.h"

namespace remora {
namespace {

constexpr size_t kFileBytesMax = 256 * 1024;
// tcpi_state; the names live in a header that excludes linux/tcp.h.
constexpr uint8_t kTcpEstablished = 1;
constexpr uint8_t kTcpSynSent = 2;
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
bool sent_last(const tcp_info& info) {
  if (info.tcpi_bytes_sent == 0) return false;
  if (info.tcpi_last_data_sent != info.tcpi_last_data_recv) {
    return info.tcpi_last_data_sent < info.tcpi_last_data_recv;
  }
  if (info.tcpi_bytes_received == 0) return true;
  return info.tcpi_last_ack_recv < info.tcpi_last_data_recv &&
         info.tcpi_last_data_recv - info.tcpi_last_ack_recv <= kAckDelayMsMax;
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
  std::vector<int> sockets;
  for (const int fd : fds) {
    const std::string target = link_target(directory + "/" + std::to_string(fd));
    if (target.starts_with("socket:") && sockets.size() < sockets_read_max) sockets.push_back(fd);
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

void ProcessReader::read_sockets(pid_t pid, const std::vector<int>& fds, ProgressSample& sample) {
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process) {
    if (!has_gone(errno)) degrade(sample, "sockets");
    return;
  }
  struct Connection {
    int fd;
    uint16_t local_port;
    std::string peer;
    tcp_info info;
  };
  std::vector<Connection> connections;
  std::set<uint16_t> listening;
  for (const int fd : fds) {
    const UniqueFd copy(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), fd, 0)));
    if (!copy) {
      if (errno == EPERM || errno == ENOSYS) {
        degrade(sample, "sockets");
        return;
      }
      continue;
    }
    tcp_info info{};
    socklen_t length = sizeof info;
    if (::getsockopt(copy.get(), IPPROTO_TCP, TCP_INFO, &info, &length) != 0) continue;
    const Result<SocketAddress> local = local_address(copy.get());
    if (!local) continue;
    int listens = 0;
    length = sizeof listens;
    ::getsockopt(copy.get(), SOL_SOCKET, SO_ACCEPTCONN, &listens, &length);
    if (listens != 0) {
      listening.insert(local->port());
      sample.accept_backlog = std::max(sample.accept_backlog, info.tcpi_unacked);
      continue;
    }
    sockaddr_storage peer{};
    length = sizeof peer;
    const bool connected =
        ::getpeername(copy.get(), reinterpret_cast<sockaddr*>(&peer), &length) == 0;
    connections.push_back(
        {fd, local->port(),
         connected ? SocketAddress(reinterpret_cast<sockaddr*>(&peer), length).to_string()
                   : "(connecting)",
         info});
  }
  for (const Connection& connection : connections) {
    if (listening.contains(connection.local_port)) continue;  // a caller's
    const std::string key =
        std::to_string(pid) + ":" + std::to_string(connection.fd) + " " + connection.peer;
    judge_connection(key, connection.peer, connection.info, sample);
  }
  if (seen_.size() > 4 * sockets_read_max) seen_.clear();
}

void ProcessReader::judge_connection(const std::string& key, const std::string& peer,
                                     const tcp_info& info, ProgressSample& sample) {
  const Seen before = seen_[key];
  // Once it awaits an answer, it does so until another byte goes one way or the other.
  const bool awaiting =
      sent_last(info) || (before.awaiting && before.bytes_sent == info.tcpi_bytes_sent &&
                          before.bytes_received == info.tcpi_bytes_received);
  seen_[key] = {info.tcpi_bytes_sent, info.tcpi_bytes_received, awaiting};
  const auto ms = [](uint32_t n) { return std::chrono::milliseconds(n); };
  if (info.tcpi_state == kTcpSynSent) {
    // The times mean nothing yet. The first tries are 1 s apart, later ones more: at least so
    // long.
    sample.outbound.push_back(
        {peer, OutboundCall::State::kConnecting, std::chrono::seconds(info.tcpi_retransmits)});
  } else if (info.tcpi_state != kTcpEstablished) {
    return;
  } else if (awaiting) {
    sample.outbound.push_back({peer, OutboundCall::State::kAwaiting, ms(info.tcpi_last_data_sent)});
  } else if (before.bytes_received > 0 && info.tcpi_bytes_received > before.bytes_received) {
    sample.outbound.push_back(
        {peer, OutboundCall::State::kStreaming, ms(info.tcpi_last_data_recv)});
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
