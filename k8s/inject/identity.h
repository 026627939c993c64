// As whom the sidecar runs, so that it can look into the agent and signal it: the kernel wants the
// same user and group and at least the agent's capabilities (ptrace(2), "Ptrace access mode").
#pragma once

#include <cstdint>
#include <optional>

#include "k8s/inject/json_view.h"
#include "k8s/inject/plan.h"

namespace remora::k8s {

// The sidecar's securityContext. Adds to the plan what is lost where the agent's user is unknown.
Json sidecar_security_context(Plan& plan);

// The sidecar's user when it was chosen for it and no other container of the pod runs as it, or as
// root, or as nobody knows whom: then its connections can be told by it.
std::optional<int64_t> own_user(const Plan& plan);

}  // namespace remora::k8s
