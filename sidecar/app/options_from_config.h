// From the configuration's messages to the plain option structs of each folder: the only place that
// knows both.
#pragma once

#include <string>
#include <vector>

#include "config/load.h"
#include "filters/registry.h"
#include "sidecar/base/log.h"
#include "sidecar/heal/supervisor.h"
#include "sidecar/health/probes.h"
#include "sidecar/health/progress.h"
#include "sidecar/local/child_agent.h"
#include "sidecar/proxy/proxy_server.h"

namespace remora {

// The configuration must have passed config::load_*; addresses that don't parse are still errors,
// because only the network code knows every form.
Result<ProxyOptions> proxy_options(const config::Config& config);
InboundFilterOptions filter_options(const config::Config& config);
ChildAgentOptions child_options(const config::Config& config);
SupervisorOptions supervisor_options(const config::Config& config);
ProgressOptions progress_options(const config::Config& config);
// With an appPort and no startup probe, the agent counts as started once its port accepts.
Result<ProbeSet> probe_set(const config::Config& config);
LogLevel log_level_of(const config::Config& config);

}  // namespace remora
