// A pod that should have Remora and hasn't: it came while the webhook was away, or before its
// namespace asked for it. Finding and telling are pure.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "k8s/inject/inject.h"

namespace remora::k8s {

struct UninjectedPod {
  std::string name;
  std::string namespace_name;
  std::string uid;
  std::string resource_version;
  std::string why;  // and what to do
};

// pod: a core/v1 Pod as the API server stores it. Nothing when it has been injected, has ended or
// is ending, or isn't to be injected by its own word or as a pod of the system.
std::optional<UninjectedPod> find_uninjected(const nlohmann::ordered_json& pod,
                                             const InjectOptions& options);

// A core/v1 Event. Its name comes from the pod's UID alone, so that of several replicas, and before
// and after a restart, one is stored.
std::string uninjected_event(const UninjectedPod& pod, int64_t now_unix_s,
                             std::string_view instance);

}  // namespace remora::k8s
