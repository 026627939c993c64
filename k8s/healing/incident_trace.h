// An Incident as an OpenTelemetry trace: a span for all of it and one below it for each step of the
// cluster, linked to the traces of what its sidecars did, which are linked to the requests that
// they touched. Pure.
#pragma once

#include <string>
#include <vector>

#include "k8s/healing/plan.h"
#include "sidecar/otlp/traces.h"

namespace remora::k8s {

// incident: one that has ended. The first span is that of all of it; the same Incident has the same
// ids.
std::vector<otlp::Span> incident_trace(const std::string& namespace_name,
                                       const IncidentRecord& incident);

}  // namespace remora::k8s
