// Traces in the JSON form of OTLP/HTTP (OpenTelemetry Protocol 1.x, "JSON Protobuf Encoding": ids
// are hexadecimal, times are nanoseconds of Unix time as text). Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace remora::otlp {

// {"k8s.pod.name", "agent-0"}
using Attributes = std::vector<std::pair<std::string, std::string>>;

struct Link {
  std::string trace_id;  // 32 digits
  std::string span_id;   // 16
  Attributes attributes{};
};

struct SpanEvent {
  int64_t at_unix_ns = 0;
  std::string name;
  Attributes attributes{};
};

enum class SpanStatus : uint8_t { kUnset, kOk, kError };

struct Span {
  std::string trace_id;
  std::string span_id;
  std::string parent_span_id{};  // empty: the root
  std::string name;
  int64_t from_unix_ns = 0;
  int64_t to_unix_ns = 0;  // before from: as if it were from
  Attributes attributes{};
  std::vector<Link> links{};
  std::vector<SpanEvent> events{};
  SpanStatus status = SpanStatus::kUnset;
  std::string status_message{};
};

// Of a whole healing, a pod's or the cluster's; part in span_id_of.
inline constexpr const char* heal_span = "heal";

// Ids made of what names the happening, so that one that is told twice is one trace.
std::string trace_id_of(std::string_view text);
// part: which span of that trace.
std::string span_id_of(std::string_view text, std::string_view part);

// The body of a request.
std::string export_request(const Attributes& resource, const std::vector<Span>& spans);

}  // namespace remora::otlp
