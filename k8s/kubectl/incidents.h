// What `kubectl remora incidents` says. Pure.
#pragma once

#include <string>
#include <vector>

#include "k8s/kubectl/status.h"

namespace remora::k8s {

// Oldest first.
std::string render_incidents(const std::vector<Json>& incidents, Form form, bool all_namespaces,
                             WallTime now);
// One, as a timeline.
std::string render_incident(const Json& incident, Form form);

}  // namespace remora::k8s
