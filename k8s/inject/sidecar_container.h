// The two containers that come into the pod: the sidecar, and before it the step that writes the
// redirect rules.
#pragma once

#include "k8s/inject/json_view.h"
#include "k8s/inject/plan.h"

namespace remora::k8s {

// A native sidecar: an init container that is always restarted, starts before everything after it
// and is stopped after the agents. volume_mounts and security_context become members as they are.
Json make_sidecar(const Plan& plan, const std::vector<Json>& volume_mounts,
                  const Json& security_context);

// Of the sidecar's port for an agent's port, to be named as a Service's targetPort: the first of
// the pod, which is also where everything captured arrives, and the others (explicit mode).
std::string entrance_name(bool is_first, int agent_port);

// Ends when the rules are in force. Needs root and NET_ADMIN.
Json make_intercept(const Plan& plan);
// Its command line for a record, as this version writes it.
Json intercept_arguments(const config::Injected& injected);

}  // namespace remora::k8s
