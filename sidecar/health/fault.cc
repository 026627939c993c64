#include "sidecar/health/fault.h"

#include <array>
#include <cstdlib>

#include "sidecar/health/observation.h"

namespace remora {

std::string_view fault_kind_name(FaultKind kind) {
  switch (kind) {
    case FaultKind::kCrash:
      return "crash";
    case FaultKind::kResourceExhaustion:
      return "resource_exhaustion";
    case FaultKind::kDeadlock:
      return "deadlock";
    case FaultKind::kHang:
      return "hang";
    case FaultKind::kStateDamaged:
      return "state_damaged";
    case FaultKind::kDependency:
      return "dependency";
    case FaultKind::kOverload:
      return "overload";
    case FaultKind::kRequested:
      return "requested";
    case FaultKind::kStoreTakenOver:
      return "store_taken_over";
  }
  std::abort();
}

bool is_advisory(FaultKind kind) {
  return kind == FaultKind::kDependency || kind == FaultKind::kOverload ||
         kind == FaultKind::kStoreTakenOver;
}

std::span<const std::string_view> fault_kind_names() {
  static const auto names = [] {
    std::array<std::string_view, kFaultKindCount> all;
    for (size_t i = 0; i < all.size(); ++i) all[i] = fault_kind_name(static_cast<FaultKind>(i));
    return all;
  }();
  return names;
}

std::string_view probe_kind_name(ProbeKind kind) {
  switch (kind) {
    case ProbeKind::kStartup:
      return "startup";
    case ProbeKind::kLiveness:
      return "liveness";
    case ProbeKind::kReadiness:
      return "readiness";
  }
  std::abort();
}

}  // namespace remora
