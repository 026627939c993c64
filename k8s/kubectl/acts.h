// The commands of the plugin that change something.
#pragma once

#include <string>

#include "k8s/kubectl/cluster.h"

namespace remora::k8s {

inline constexpr int drain_poll_ms = 1'000;
inline constexpr int drain_wait_s_max = 3'600;

// What to print, and with which exit code to end.
struct Outcome {
  std::string text;
  int exit_code = 0;
};

// Evicts the pod: its sidecar drains, takes a last snapshot, and the owner makes another. While a
// disruption budget forbids it, it is asked again until wait is over (exit code 3). Done when the
// pod is gone.
Result<Outcome> drain_pod(Cluster& cluster, const std::string& pod, Duration wait);

// Holds healing of the pod back, or lets it go on.
Result<Outcome> pause_pod(Cluster& cluster, const std::string& pod, bool paused);
Result<Outcome> pause_policy(Cluster& cluster, const std::string& policy, bool paused);

}  // namespace remora::k8s
