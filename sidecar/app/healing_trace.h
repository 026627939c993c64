// One healing as an OpenTelemetry trace: a span for the incident, one below it for each part of the
// time to recovery, and links to the requests that were under way. Pure.
//
// The ids come from the incident's own, so that one that is sent twice is one trace.
#pragma once

#include <string>
#include <vector>

#include "sidecar/heal/incident.h"
#include "sidecar/otlp/traces.h"

namespace remora {

inline constexpr size_t trace_links_max = 32;

// The incident is closed. The first span is the incident's.
std::vector<otlp::Span> healing_trace(const Incident& incident, std::string_view agent);

struct TraceParent {
  std::string trace_id;  // 32 digits
  std::string span_id;   // 16
};
// What a field traceparent says (W3C Trace Context section 3.2); empty ids: nothing usable.
TraceParent parse_traceparent(std::string_view value);

}  // namespace remora
