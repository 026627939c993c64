#include "sidecar/app/healing_trace.h"

#include <algorithm>

#include "sidecar/heal/decide.h"

namespace remora {
namespace {

constexpr size_t trace_id_digits = 32;
constexpr size_t span_id_digits = 16;
constexpr size_t version_digits = 2;
constexpr std::string_view zeros = "00000000000000000000000000000000";

bool is_hex(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

otlp::Span span(const Incident& incident, const char* name, int64_t from_ns, int64_t to_ns) {
  return {.trace_id = otlp::trace_id_of(incident.id),
          .span_id = otlp::span_id_of(incident.id, name),
          .name = name,
          .from_unix_ns = from_ns,
          .to_unix_ns = to_ns};
}

std::vector<otlp::Link> links_of(const Incident& incident) {
  constexpr std::string_view mark = "traceparent ";
  std::vector<otlp::Link> links;
  for (const std::string& request : incident.requests_in_flight) {
    const size_t at = request.rfind(mark);
    if (at == std::string::npos || links.size() >= trace_links_max) continue;
    const TraceParent parent =
        parse_traceparent(std::string_view(request).substr(at + mark.size()));
    if (parent.trace_id.empty()) continue;
    // One that was under way when its connection broke is there twice.
    if (std::ranges::find(links, parent.span_id, &otlp::Link::span_id) != links.end()) continue;
    links.push_back({.trace_id = parent.trace_id,
                     .span_id = parent.span_id,
                     .attributes = {{"remora.request", request.substr(0, at)}}});
  }
  return links;
}

otlp::Span root_of(const Incident& incident, std::string_view agent) {
  const int64_t end_ns = std::max(incident.closed_at_unix_ns, incident.ready_at_unix_ns);
  otlp::Span root = span(incident, otlp::heal_span, incident.began_at_unix_ns, end_ns);
  root.attributes = {{"remora.agent", std::string(agent)},
                     {"remora.fault", std::string(fault_kind_name(incident.fault))},
                     {"remora.incident", incident.id},
                     {"remora.summary", incident.summary},
                     {"remora.outcome", std::string(closed_reason_name(incident.closed_reason))}};
  const bool well = incident.closed_reason == ClosedReason::kRecovered;
  root.status = well ? otlp::SpanStatus::kOk : otlp::SpanStatus::kError;
  if (!well) root.status_message = incident.summary;
  root.links = links_of(incident);
  for (const IncidentStep& step : incident.steps) {
    root.events.push_back(
        {.at_unix_ns = step.intent_at_unix_ns,
         .name = std::string(heal_action_name(step.action)),
         .attributes = {{"remora.reason", step.reason}, {"remora.outcome", step.outcome}}});
  }
  return root;
}

}  // namespace

TraceParent parse_traceparent(std::string_view value) {
  constexpr size_t length = version_digits + 1 + trace_id_digits + 1 + span_id_digits + 1 + 2;
  if (value.size() < length || !is_hex(value.substr(0, version_digits))) return {};
  // A later version may have more after it; version ff is none.
  if (value.starts_with("ff") || (value.starts_with("00") && value.size() != length)) return {};
  const std::string_view trace = value.substr(version_digits + 1, trace_id_digits);
  const std::string_view parent =
      value.substr(version_digits + 1 + trace_id_digits + 1, span_id_digits);
  const bool dashes = value[version_digits] == '-' &&
                      value[version_digits + 1 + trace_id_digits] == '-' &&
                      value[length - 3] == '-';
  if (!dashes || !is_hex(trace) || !is_hex(parent)) return {};
  if (trace == zeros || parent == zeros.substr(0, span_id_digits)) return {};
  return {.trace_id = std::string(trace), .span_id = std::string(parent)};
}

std::vector<otlp::Span> healing_trace(const Incident& incident, std::string_view agent) {
  std::vector<otlp::Span> spans = {root_of(incident, agent)};
  const auto child = [&](const char* name, int64_t from_ns, int64_t to_ns) {
    if (from_ns == 0 || to_ns == 0) return;
    spans.push_back(span(incident, name, from_ns, to_ns));
    spans.back().parent_span_id = spans.front().span_id;
  };
  child("detect", incident.began_at_unix_ns, incident.detected_at_unix_ns);
  child("decide", incident.detected_at_unix_ns, incident.decided_at_unix_ns);
  child("act", incident.decided_at_unix_ns, incident.acted_at_unix_ns);
  child("ready", incident.acted_at_unix_ns, incident.ready_at_unix_ns);
  return spans;
}

}  // namespace remora
