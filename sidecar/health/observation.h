// What is known about the agent at one moment: the input of classify.h. Probes, the progress
// sampler, the orchestrator, the state keeper and the proxy make observations; nothing in here
// judges. Plain values: copying one is always safe, and a test or a simulation can make any of
// them.
//
// Counters are totals that only grow (within one generation of the agent); the classifier takes
// differences. A fact that could not be read is left out and named in `degraded`, never guessed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <sys/types.h>

#include "sidecar/base/clock.h"

namespace remora {

struct AgentStarted {
  uint64_t generation = 0;
  pid_t pid = 0;
};

struct AgentExited {
  uint64_t generation = 0;
  int exit_code = 0;        // as a shell shows it: 128 + signal when killed by one
  int signal = 0;           // 0 when it exited by itself
  bool oom_killed = false;  // the cgroup's oom_kill counter rose
  // Remora itself asked it to stop: no fault.
  bool requested = false;
  std::string log_tail_hint;  // its last output, newest last; may be empty
};

enum class ProbeKind : uint8_t { kStartup, kLiveness, kReadiness };
enum class ProbeOutcome : uint8_t { kSuccess, kFailure };
// "startup", "liveness", "readiness"
std::string_view probe_kind_name(ProbeKind kind);

// One finished attempt of a probe.
struct ProbeResult {
  ProbeKind probe = ProbeKind::kLiveness;
  ProbeOutcome outcome = ProbeOutcome::kSuccess;
  std::string reason;      // "GET /healthz: HTTP 503: database unreachable"; empty on success
  bool timed_out = false;  // no answer within the probe's timeout (a refusal is an answer)
  Duration elapsed{};
  uint32_t consecutive = 1;        // attempts in a row with this outcome, this one included
  uint32_t failure_threshold = 3;  // so many failures in a row mean that it is ill
  // What the probe says once its thresholds are applied: the value that routing and healing follow.
  bool healthy = true;
};

// One thread of the agent (or of a process below it), as evidence.
struct ThreadState {
  pid_t pid = 0;
  pid_t tid = 0;
  std::string name;
  char state = '?';      // R, S, D, T, Z … as /proc shows it
  std::string waits_in;  // "futex", "epoll_wait", "clock_nanosleep"; empty: running or unknown
  bool untimed_futex = false;  // waits on a futex without a time limit
};

// A connection that the agent opened to somebody else and that something is under way on.
struct OutboundCall {
  enum class State : uint8_t {
    kConnecting,  // not open yet
    kAwaiting,    // the agent has sent something and awaits the answer
    // The answer has been coming in over some time; whether it is complete can't be seen from
    // outside. Explains waiting only until its last byte came.
    kStreaming,
  };
  std::string peer;  // "10.0.0.7:5432"
  State state = State::kAwaiting;
  Duration pending_for{};  // since the last byte: sent when awaiting, received when streaming
};

struct ProgressSample {
  uint64_t generation = 0;

  // From the proxy (InFlightSource).
  uint64_t in_flight = 0;  // requests that the agent has and owes an answer to, streams left out
  Duration oldest_age{};   // of the oldest of them; zero when there is none
  std::string oldest_request;     // "POST /invoke"; no query, no secrets
  uint64_t requests_started = 0;  // total handed to the agent
  // Total that came out of the agent. Bytes into it are no sign of life: the kernel takes them for
  // a hung process too.
  uint64_t bytes_from_agent = 0;

  // From /proc: the agent's process and every process below it or in its group.
  bool process_seen = false;  // false: none of the facts below is known
  uint64_t cpu_ns = 0;
  uint64_t runqueue_wait_ns = 0;  // runnable, but no CPU was free
  uint64_t io_bytes = 0;          // through read and write calls, and to and from disks
  uint32_t processes = 0;
  uint32_t threads_total = 0;
  std::vector<ThreadState> threads;    // the first threads_shown_max, main thread first
  bool has_event_loop = false;         // the agent's main process holds an epoll descriptor
  std::vector<OutboundCall> outbound;  // longest pending first, outbound_shown_max at most
  uint32_t accept_backlog = 0;         // connections that wait to be accepted by the agent
  uint32_t fds_open = 0;               // of the process nearest to its limit
  uint64_t fds_max = 0;                // 0: unknown
  // From the cgroup.
  Duration throttled{};       // total time for which the CPU quota held it back
  double cpus_available = 0;  // quota, else the CPUs it may run on; 0: unknown
  uint64_t oom_kills = 0;     // total
  // What could not be seen and why: "io: permission denied".
  std::vector<std::string> degraded;
};
inline constexpr size_t threads_shown_max = 32;
inline constexpr size_t outbound_shown_max = 8;

// One thread of a cycle: it waits for a lock that the next thread holds.
struct DeadlockEdge {
  pid_t tid = 0;
  std::string thread_name;
  std::string lock_kind;  // "mutex", "robust mutex", "rwlock", "join"
  uint64_t lock_address = 0;
  std::string lock_place;  // "libfoo.so+0x4010", "[heap]"; empty when unknown
  pid_t owner_tid = 0;
  std::string owner_name;
  uint64_t switches = 0;  // voluntary and involuntary, of tid: unchanged means it has not run

  bool operator==(const DeadlockEdge&) const = default;
};

struct DeadlockSample {
  uint64_t generation = 0;
  pid_t pid = 0;                    // the process looked at
  std::vector<DeadlockEdge> cycle;  // empty: none; begins with the lowest tid
  bool all_untimed_futex = false;   // every thread of it waits on a futex without a time limit
  uint32_t threads = 0;
};

struct OverloadSample {
  uint64_t rejected = 0;  // total turned away because a limit was reached (503)
  uint64_t in_flight = 0;
  uint64_t in_flight_max = 0;
};

struct StateChecked {
  bool damaged = false;
  std::string problem;
};

struct Observation {
  MonotonicTime at;
  std::variant<AgentStarted, AgentExited, ProbeResult, ProgressSample, DeadlockSample,
               OverloadSample, StateChecked>
      what;
};

}  // namespace remora
