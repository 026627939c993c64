#include "sidecar/serve/message.h"

#include "sidecar/base/json_text.h"

namespace remora {

ServerResponse problem_response(int status, std::string_view title, std::string_view detail) {
  ServerResponse response;
  response.status = status;
  response.content_type = "application/problem+json";
  response.body = "{\"status\":" + std::to_string(status) + ",\"title\":\"";
  append_json_escaped(response.body, title);
  response.body += "\",\"detail\":\"";
  append_json_escaped(response.body, detail);
  response.body += "\"}\n";
  return response;
}

}  // namespace remora
