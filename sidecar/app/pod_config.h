// The configuration of a pod's sidecar: what the injection recorded, the pod's annotations, and the
// file of a ConfigMap, put together for each agent.
#pragma once

#include <string>
#include <vector>

#include "config/load.h"
#include "sidecar/app/app.h"

namespace remora {

struct PodSources {
  std::string info_dir;                     // of the downward API volume; has the file annotations
  std::string config_file;                  // empty: none
  std::vector<config::Override> overrides;  // of the command line; they win
};

// What is there now. When it is good a copy is kept beside the admin socket. Blocks for some
// milliseconds an agent (config/isolated_load.h).
Result<AppConfig> load_pod(const PodSources& sources);

// For a sidecar that starts: should what is there now be bad, what was last good in this pod, with
// the reason in AppConfig::refused. An annotation that is mistyped in a running pod must not cost
// it its sidecar at the next restart.
Result<AppConfig> load_pod_or_last_good(const PodSources& sources);

}  // namespace remora
