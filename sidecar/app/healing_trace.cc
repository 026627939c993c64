#include "sidecar/app/healing_trace.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include <fmt/format.h>

#include "sidecar/heal/decide.h"

namespace remora {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t trace_id_digits = 32;
constexpr size_t span_id_digits = 16;
constexpr size_t version_digits = 2;
constexpr int span_kind_internal = 1;
constexpr int status_ok = 1;
constexpr int status_error = 2;
constexpr std::string_view zeros = "00000000000000000000000000000000";

uint64_t hash_of(std::string_view text, uint64_t seed) {
  uint64_t hash = 0xcbf29ce484222325 ^ seed;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

std::string span_id_of(const Incident& incident, std::string_view part) {
  return fmt::format("{:016x}", hash_of(incident.id, hash_of(part, 0)) | 1);
}

std::string trace_id_of(const Incident& incident) {
  return fmt::format("{:016x}{:016x}", hash_of(incident.id, 1), hash_of(incident.id, 2) | 1);
}

bool is_hex(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

Json attribute(std::string_view key, std::string_view value) {
  return {{"key", key}, {"value", {{"stringValue", value}}}};
}

Json span(const Incident& incident, std::string_view name, int64_t from_ns, int64_t to_ns) {
  return {{"traceId", trace_id_of(incident)},
          {"spanId", span_id_of(incident, name)},
          {"name", name},
          {"kind", span_kind_internal},
          {"startTimeUnixNano", std::to_string(from_ns)},
          {"endTimeUnixNano", std::to_string(std::max(from_ns, to_ns))}};
}

Json links_of(const Incident& incident) {
  constexpr std::string_view mark = "traceparent ";
  Json links = Json::array();
  for (const std::string& request : incident.requests_in_flight) {
    const size_t at = request.rfind(mark);
    if (at == std::string::npos || links.size() >= trace_links_max) continue;
    const TraceParent parent =
        parse_traceparent(std::string_view(request).substr(at + mark.size()));
    if (parent.trace_id.empty()) continue;
    // One that was under way when its connection broke is there twice.
    const auto is_it = [&](const Json& link) { return link.at("spanId") == parent.span_id; };
    if (std::ranges::any_of(links, is_it)) continue;
    links.push_back({{"traceId", parent.trace_id},
                     {"spanId", parent.span_id},
                     {"attributes", {attribute("remora.request", request.substr(0, at))}}});
  }
  return links;
}

Json steps_of(const Incident& incident) {
  Json events = Json::array();
  for (const IncidentStep& step : incident.steps) {
    events.push_back(
        {{"timeUnixNano", std::to_string(step.intent_at_unix_ns)},
         {"name", heal_action_name(step.action)},
         {"attributes",
          {attribute("remora.reason", step.reason), attribute("remora.outcome", step.outcome)}}});
  }
  return events;
}

Json root_of(const Incident& incident, std::string_view agent) {
  const int64_t end_ns = std::max({incident.closed_at_unix_ns, incident.ready_at_unix_ns});
  Json root = span(incident, "heal", incident.began_at_unix_ns, end_ns);
  root["attributes"] = {
      attribute("remora.agent", agent), attribute("remora.fault", fault_kind_name(incident.fault)),
      attribute("remora.incident", incident.id), attribute("remora.summary", incident.summary),
      attribute("remora.outcome", closed_reason_name(incident.closed_reason))};
  const bool well = incident.closed_reason == ClosedReason::kRecovered;
  root["status"] = {{"code", well ? status_ok : status_error}};
  if (!well) root["status"]["message"] = incident.summary;
  root["links"] = links_of(incident);
  root["events"] = steps_of(incident);
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

std::string healing_trace(const Incident& incident, std::string_view agent,
                          const TraceResource& resource) {
  Json spans = Json::array({root_of(incident, agent)});
  const auto child = [&](const char* name, int64_t from_ns, int64_t to_ns) {
    if (from_ns == 0 || to_ns == 0) return;
    Json part = span(incident, name, from_ns, to_ns);
    part["parentSpanId"] = span_id_of(incident, "heal");
    spans.push_back(std::move(part));
  };
  child("detect", incident.began_at_unix_ns, incident.detected_at_unix_ns);
  child("decide", incident.detected_at_unix_ns, incident.decided_at_unix_ns);
  child("act", incident.decided_at_unix_ns, incident.acted_at_unix_ns);
  child("ready", incident.acted_at_unix_ns, incident.ready_at_unix_ns);
  Json attributes = Json::array();
  for (const auto& [key, value] : resource) attributes.push_back(attribute(key, value));
  const Json scope = {{"name", "remora"}, {"version", REMORA_VERSION}};
  const Json scoped = {{"scope", scope}, {"spans", std::move(spans)}};
  const Json of_resource = {{"resource", {{"attributes", std::move(attributes)}}},
                            {"scopeSpans", Json::array({scoped})}};
  return Json{{"resourceSpans", Json::array({of_resource})}}.dump(-1, ' ', false,
                                                                  Json::error_handler_t::replace);
}

}  // namespace remora
