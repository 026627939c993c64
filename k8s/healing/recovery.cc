#include "k8s/healing/recovery.h"

#include <algorithm>

#include "k8s/healing/facts.h"

namespace remora::k8s {
namespace {

// A sidecar that has healed its agent by itself knows its own times, to the millisecond.
std::optional<RecoverySplit> split_of_sidecar(const v1alpha1::IncidentStatus& status) {
  if (status.sidecar_size() == 0 || status.steps_size() > 0) return std::nullopt;
  const v1alpha1::SidecarHealing& last = status.sidecar(status.sidecar_size() - 1);
  if (last.outcome() != "recovered") return std::nullopt;
  return RecoverySplit{.detect = std::chrono::milliseconds(last.detect_milliseconds()),
                       .decide = std::chrono::milliseconds(last.decide_milliseconds()),
                       .act = std::chrono::milliseconds(last.act_milliseconds()),
                       .ready = std::chrono::milliseconds(last.ready_milliseconds())};
}

}  // namespace

std::optional<RecoverySplit> recovery_split(const v1alpha1::IncidentSpec& spec,
                                            const v1alpha1::IncidentStatus& status) {
  const auto detected = parse_time(spec.detected_at());
  auto ended = parse_time(status.ended_at());
  if (status.phase() != "Resolved" || !detected || !ended) return std::nullopt;
  const WallTime began = std::min(parse_time(spec.began_at()).value_or(*detected), *detected);
  // The pod was well before it was known to stay so.
  if (status.recovery_seconds() > 0) {
    ended = std::min(*ended, began + std::chrono::seconds(status.recovery_seconds()));
  }
  const WallTime end = std::max(*ended, *detected);
  if (const auto split = split_of_sidecar(status)) return split;
  WallTime first = end;
  WallTime last = *detected;
  for (const v1alpha1::IncidentStep& step : status.steps()) {
    const auto started = parse_time(step.started_at());
    if (!started) continue;
    const WallTime at = std::clamp(*started, *detected, end);
    first = std::min(first, at);
    last = std::max(last, at);
  }
  last = std::max(first, last);
  return RecoverySplit{.detect = *detected - began,
                       .decide = first - *detected,
                       .act = last - first,
                       .ready = end - last};
}

}  // namespace remora::k8s
