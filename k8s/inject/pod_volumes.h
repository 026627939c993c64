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

// The mount of the pod's service account token, as the API server adds it to each container that
// has none: it has done so to the pod's own before it asks a webhook. With it in our containers
// from the start there is nothing left to add to them, and so no reason to ask a second time. Null
// where the pod's own have none: it is not for us to hand the token out.
const Json* account_token_mount(const Plan& plan);

}  // namespace remora::k8s
