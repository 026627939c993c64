// Volumes of an injected pod: what the sidecar knows of its pod, its configuration, the snapshots,
// and the agents' state where both sides see it.
#pragma once

#include "k8s/inject/patch_builder.h"
#include "k8s/inject/plan.h"

namespace remora::k8s {

struct Volumes {
  std::vector<Json> pod;      // of spec.volumes
  std::vector<Json> sidecar;  // volumeMounts
  // volumeMounts of plan.agents[i].
  std::vector<std::vector<Json>> agents;
};

// Complains where the agents' state can't be seen by both sides.
Volumes plan_volumes(Plan& plan);

}  // namespace remora::k8s
