// The configuration of a pod's sidecar: what the injection recorded, the pod's annotations, and the
// file of a ConfigMap, put together for each agent.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "config/annotations.h"
#include "config/load.h"
#include "sidecar/app/app.h"

namespace remora {

struct PodSources {
  std::string info_dir;                     // of the downward API volume; has the file annotations
  std::string config_file;                  // empty: none
  std::vector<config::Override> overrides;  // of the command line; they win
  // What the operator has told of the pod's policy since the pod was made; absent: nothing.
  std::optional<config::PolicyValues> policy{};
};

// What is there now. When it is good a copy is kept beside the admin socket. Blocks for some
// milliseconds an agent (config/isolated_load.h).
Result<AppConfig> load_pod(const PodSources& sources);

// For a sidecar that starts: should what is there now be bad, what was last good in this pod, with
// the reason in AppConfig::refused. An annotation that is mistyped in a running pod must not cost
// it its sidecar at the next restart.
Result<AppConfig> load_pod_or_last_good(const PodSources& sources);

// What was last in force of what the operator has told, beyond a restart of this container.
std::optional<config::PolicyValues> kept_policy_values();
void keep_policy_values(const config::PolicyValues& settings);

}  // namespace remora
