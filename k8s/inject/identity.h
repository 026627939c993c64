// As whom the sidecar runs, so that it can look into the agent and signal it: the kernel wants the
// same user and group and at least the agent's capabilities (ptrace(2), "Ptrace access mode").
#pragma once

#include "k8s/inject/json_view.h"
#include "k8s/inject/plan.h"

namespace remora::k8s {

// The sidecar's securityContext. Adds to the plan what is lost where the agent's user is unknown.
Json sidecar_security_context(Plan& plan);

}  // namespace remora::k8s
