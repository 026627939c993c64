// What a HealingPolicy sets in its pods: `spec.sidecar` and `spec.injection`, read as the
// annotations that would say the same. So there is one way from a setting to the sidecar, whoever
// wrote it, and a pod's own annotation wins by being there already. Pure.
#pragma once

#include "config/annotations.h"
#include "k8s/inject/json_view.h"

namespace remora::k8s {

struct PolicySettings {
  config::Annotations annotations;
  // Not to be used when there are any; each has its place as "spec.sidecar.detection.hangWindow".
  config::Problems problems;
};

// spec: of a HealingPolicy. Members that nobody knows, of a later version, are left out.
PolicySettings read_settings(const Json& spec);

}  // namespace remora::k8s
