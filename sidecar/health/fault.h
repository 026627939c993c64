// What can be wrong with an agent, and why we say so.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/base/clock.h"

namespace remora {

// The names (fault_kind_name) are part of the interface: incidents, metrics labels, configuration.
enum class FaultKind : uint8_t {
  kCrash,               // "crash": the process ended by itself
  kResourceExhaustion,  // "resource_exhaustion": memory, descriptors, disk or threads ran out
  kDeadlock,            // "deadlock": a proven, stable cycle of threads and locks
  kHang,                // "hang": no progress for the hang window, or liveness failed
  kStateDamaged,        // "state_damaged": the state directory is lost or fails its check
  kDependency,          // "dependency": the agent waits for something outside it
  kOverload,            // "overload": more work than it can do; shed, never restart
  kRequested,           // "requested": nothing is wrong; somebody asked for a restart or a restore
  kStoreTakenOver,      // "store_taken_over": another one writes its snapshots now, it must not
};
inline constexpr size_t kFaultKindCount = 9;
std::string_view fault_kind_name(FaultKind kind);
// Those that are recorded and told, and never acted upon.
bool is_advisory(FaultKind kind);
// All names, in the order of the kinds.
std::span<const std::string_view> fault_kind_names();

// One fact that led to the diagnosis, as text that a person can check.
struct EvidenceItem {
  std::string kind;  // "exit", "probe", "thread", "lock", "request", "log", "oom", "progress", …
  std::string text;  // one line: "thread 4711 (worker) waits for lock 0x7f… held by thread 4712"
};

struct Fault {
  FaultKind kind = FaultKind::kCrash;
  std::string summary;  // one line
  std::vector<EvidenceItem> evidence;
  MonotonicTime began_at;     // earliest sign
  MonotonicTime detected_at;  // when it was certain
};

}  // namespace remora
