// Whether a pod gets Remora at all, before anything is planned.
#pragma once

#include <optional>

#include "config/annotation_file.h"
#include "k8s/inject/inject.h"
#include "k8s/inject/json_view.h"

namespace remora::k8s {

// Text members of metadata.annotations or metadata.labels of a pod of the right shape.
config::Annotations metadata_map(const Json& pod, std::string_view key);

// A reason to leave the pod alone; nothing when it is to be injected.
std::optional<Skip> reason_to_skip(const Json& pod, const config::Annotations& annotations,
                                   const InjectOptions& options);

// What is wrong with the version of the cluster; nothing when it will do or is not known.
config::Problems check_kubernetes_version(const std::string& version);
// "v1.35.0", "1.35+" are for minor 35; an unknown version is not.
bool has_kubernetes_minor(const std::string& version, int minor);

}  // namespace remora::k8s
