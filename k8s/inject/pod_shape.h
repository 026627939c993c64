// Whether a JSON document has the types of a core/v1 Pod wherever we look or write. What has passed
// may be read without further checks of types. Everything else of a pod is the API server's to
// judge.
#pragma once

#include "config/problem.h"
#include "k8s/inject/json_view.h"

namespace remora::k8s {

// Nothing when the shape is right; paths as in "spec.containers[1].env".
config::Problems check_pod_shape(const Json& pod);

}  // namespace remora::k8s
