// One question to the API server and its answer.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "sidecar/base/clock.h"

namespace remora::k8s {

inline constexpr size_t api_reply_bytes_max = 32 << 20;
inline constexpr int api_answer_ms_max = 30'000;

struct ApiRequest {
  std::string method = "GET";
  std::string path{};                             // "/api/v1/pods?limit=500"
  std::string body{};                             // empty: none
  std::string content_type = "application/json";  // of the body
  // From the call to the whole answer; of a stream, to the head of its answer.
  int answer_ms_max = api_answer_ms_max;
  // A 429 or 503 with Retry-After is asked again, as long as answer_ms_max allows it. False where
  // the caller has something better to do meanwhile.
  bool retry_throttled = true;
  // Asked right before the request's bytes go to the socket, also when it is sent again. False: it
  // is not sent and ends in kCancelled. Empty: always.
  std::function<bool()> may_send{};
};

struct ApiReply {
  int status = 0;
  std::string body;
  std::optional<Duration> retry_after{};  // what Retry-After asks for, in its form of seconds
  bool ok() const { return status / 100 == 2; }
};

// What Kubernetes' authorisation sees of a request.
struct ApiTarget {
  std::string verb;        // get, list, watch, create, update, patch, delete, deletecollection
  std::string group;       // empty: the core group
  std::string namespace_;  // empty: none
  std::string resource;    // "pods", "pods/eviction"; empty for what is no resource, "/version"
  std::string name;
};
// path: with or without its query. Pure.
ApiTarget target_of(std::string_view method, std::string_view path);

// As a value in a query (RFC 3986 section 3.4).
std::string percent_encoded(std::string_view text);

}  // namespace remora::k8s
