// What Remora's own HTTP endpoints (admin, the kubelet's checks, admission) are asked and answer.
// The data path has its own, streaming messages in sidecar/http.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace remora {

struct ServerRequest {
  std::string method;
  std::string path;  // with query
  std::string host;  // the Host field; empty: none
  std::string body;  // empty unless the server keeps bodies
};

struct ServerResponse {
  int status = 200;
  std::string_view content_type = "application/json";  // a literal
  std::string_view allow = {};                         // a literal; for 405
  std::string body;
};

// Exactly once: from inside the call or later; after the connection's end it is fine too.
using ServerRespond = std::move_only_function<void(ServerResponse)>;
using ServerHandler = std::move_only_function<void(const ServerRequest&, ServerRespond)>;

// An application/problem+json body (RFC 9457).
ServerResponse problem_response(int status, std::string_view title, std::string_view detail);

}  // namespace remora
