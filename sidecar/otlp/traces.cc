#include "sidecar/otlp/traces.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include <fmt/format.h>

namespace remora::otlp {
namespace {

using Json = nlohmann::ordered_json;

constexpr int span_kind_internal = 1;

uint64_t hash_of(std::string_view text, uint64_t seed) {
  uint64_t hash = 0xcbf29ce484222325 ^ seed;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

Json json_of(const Attributes& attributes) {
  Json all = Json::array();
  for (const auto& [key, value] : attributes) {
    all.push_back({{"key", key}, {"value", {{"stringValue", value}}}});
  }
  return all;
}

Json json_of(const Span& span) {
  Json json = {{"traceId", span.trace_id}, {"spanId", span.span_id}};
  if (!span.parent_span_id.empty()) json["parentSpanId"] = span.parent_span_id;
  json["name"] = span.name;
  json["kind"] = span_kind_internal;
  json["startTimeUnixNano"] = std::to_string(span.from_unix_ns);
  json["endTimeUnixNano"] = std::to_string(std::max(span.from_unix_ns, span.to_unix_ns));
  json["attributes"] = json_of(span.attributes);
  Json links = Json::array();
  for (const Link& link : span.links) {
    links.push_back({{"traceId", link.trace_id},
                     {"spanId", link.span_id},
                     {"attributes", json_of(link.attributes)}});
  }
  json["links"] = std::move(links);
  Json events = Json::array();
  for (const SpanEvent& event : span.events) {
    events.push_back({{"timeUnixNano", std::to_string(event.at_unix_ns)},
                      {"name", event.name},
                      {"attributes", json_of(event.attributes)}});
  }
  json["events"] = std::move(events);
  if (span.status == SpanStatus::kUnset) return json;
  json["status"] = {{"code", static_cast<int>(span.status)}};
  if (!span.status_message.empty()) json["status"]["message"] = span.status_message;
  return json;
}

}  // namespace

// Neither may be all zeros.
std::string trace_id_of(std::string_view text) {
  return fmt::format("{:016x}{:016x}", hash_of(text, 1), hash_of(text, 2) | 1);
}

std::string span_id_of(std::string_view text, std::string_view part) {
  return fmt::format("{:016x}", hash_of(text, hash_of(part, 0)) | 1);
}

std::string export_request(const Attributes& resource, const std::vector<Span>& spans) {
  Json all = Json::array();
  for (const Span& span : spans) all.push_back(json_of(span));
  const Json scope = {{"name", "remora"}, {"version", REMORA_VERSION}};
  const Json scoped = {{"scope", scope}, {"spans", std::move(all)}};
  const Json of_resource = {{"resource", {{"attributes", json_of(resource)}}},
                            {"scopeSpans", Json::array({scoped})}};
  return Json{{"resourceSpans", Json::array({of_resource})}}.dump(-1, ' ', false,
                                                                  Json::error_handler_t::replace);
}

}  // namespace remora::otlp
