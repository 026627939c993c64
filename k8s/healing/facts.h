// What the operator reads out of Kubernetes' objects, as values. Pure; no object crashes it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "config/annotation_file.h"
#include "k8s/inject/json_view.h"
#include "k8s/watch/object.h"
#include "sidecar/base/clock.h"

namespace remora::k8s {

// WallTime holds the years 1678 to 2262. Times are subtracted and added to, which must fit, too.
inline constexpr int time_year_min = 1970;
inline constexpr int time_year_max = 2199;

// "2026-01-01T00:00:00Z", also with a fraction; nothing for anything else, nor for other years.
std::optional<WallTime> parse_time(std::string_view text);
std::string format_time(WallTime time);

// The end of a container's run.
struct Termination {
  int64_t exit_code = 0;
  std::string reason{};  // "OOMKilled", "Error"
  std::optional<WallTime> ended_at{};
};

struct ContainerFacts {
  std::string name{};
  bool ready = false;
  bool running = false;
  std::optional<WallTime> started_at{};  // of the run that goes on
  int64_t restarts = 0;
  std::string waiting_reason{};  // "CrashLoopBackOff"; empty: it doesn't wait
  std::string waiting_message{};
  std::optional<Termination> ended{};  // the run that is over now, or the one before
  std::string image{};                 // as the specification names it
  std::string image_id{};              // what was pulled for it
  bool pulls_always = false;           // imagePullPolicy
  bool is_init = false;                // it begins before the pod's own containers
  std::optional<int64_t> memory_limit_bytes{};
  std::optional<int64_t> memory_request_bytes{};
};

struct PodFacts {
  std::string namespace_name{};
  std::string name{};
  std::string uid{};
  std::string resource_version{};
  std::string node{};
  std::string owner_kind{};  // of its controller; empty: nobody would make it again
  std::string owner_name{};
  std::string owner_uid{};
  std::map<std::string, std::string> labels{};
  std::string phase{};
  config::Annotations annotations{};    // those of ours, but for the records of the injection
  std::set<std::string> from_policy{};  // which of them a policy has set
  bool has_sidecar = false;             // it was injected
  bool paused = false;                  // by annotation
  bool deleting = false;                // it has a deletionTimestamp
  bool ready = false;
  std::optional<WallTime> created_at{};
  std::optional<WallTime> ready_since{};  // when the condition Ready became what it is
  std::vector<ContainerFacts> containers{};
  std::vector<std::string> claims{};  // PersistentVolumeClaims that it mounts
  std::string resize_refusal{};       // why the kubelet can't resize it; empty: it can, or has

  bool ended() const { return phase == "Succeeded" || phase == "Failed"; }
  std::string owner() const { return owner_kind.empty() ? "" : owner_kind + "/" + owner_name; }
};
PodFacts read_pod(const Object& pod);
// Takes away what read_pod() doesn't look at.
void trim_pod(Json& pod);

struct NodeFacts {
  std::string name{};
  bool ready = true;
  std::string why{};                // of the condition Ready, when it isn't
  std::optional<WallTime> since{};  // that it is ready, or that it isn't
  std::optional<WallTime> created_at{};
  // Why nothing new comes to it, and what is there is about to be moved: it is cordoned, or about
  // to be taken away; empty: it isn't.
  std::string leaving{};
  // When that last was not so, as far as this process has seen. Not of the object.
  std::optional<WallTime> last_open{};
};
NodeFacts read_node(const Object& node);
void trim_node(Json& node);

enum class FaultKind {
  kCrashLoop,
  kOutOfMemory,
  kNodeUnready,
  kImagePull,
  kConfigError,
  kVolumeError,
  kUnready,
  kGaveUp,
};
// As in the schema: "crash_loop".
std::string_view to_string(FaultKind kind);
std::optional<FaultKind> fault_kind_of(std::string_view name);

struct PodFault {
  FaultKind kind = FaultKind::kUnready;
  std::string container{};  // empty: the whole pod
  std::string summary{};
  std::optional<WallTime> began_at{};
};

// A Warning of the kubelet or a controller about a pod.
struct PodEvent {
  std::string reason{};  // "FailedMount"
  std::string message{};
  std::optional<WallTime> last_at{};
};
// Read where the pod's own status says nothing; older ones are read again.
inline constexpr int pod_events_age_ms_max = 15'000;
struct PodEvents {
  std::vector<PodEvent> events{};  // newest last
  WallTime read_at{};
};
// Of a list of core/v1 Events.
PodEvents read_pod_events(const Json& list);
// Scheduled, and for longer than images and volumes usually take nothing of it runs: its Events say
// why.
inline constexpr int slow_start_ms = 20'000;
bool starts_slowly(const PodFacts& pod, WallTime now);

// The most telling fault of a pod, if it has one: a node that is gone explains everything on it,
// and a known cause explains that a pod isn't ready. node null: unknown; events null: not read.
// unready_after: how long a pod may be running and not ready before that alone is one.
std::optional<PodFault> find_fault(const PodFacts& pod, const NodeFacts* node,
                                   const PodEvents* events, WallTime now, Duration unready_after);

}  // namespace remora::k8s
