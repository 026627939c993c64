#include "sidecar/proxy/error_reply.h"

#include "sidecar/base/json_text.h"

namespace remora {

ErrorReply make_error_reply(http::Problem problem, std::string_view detail, bool is_grpc,
                            bool is_head) {
  const http::ProblemInfo& info = http::problem_info(problem);
  ErrorReply reply;
  reply.head.headers.add("remora-problem", info.name);
  if (is_grpc) {
    reply.head.status = 200;
    reply.head.headers.add("content-type", "application/grpc");
    reply.head.headers.add("grpc-status", reply.head.arena->copy(std::to_string(info.grpc_status)));
    reply.head.headers.add("grpc-message", info.title);
    return reply;
  }
  reply.head.status = info.status;
  reply.head.headers.add("content-type", "application/problem+json");
  if (info.retry_after_s > 0) {
    reply.head.headers.add("retry-after",
                           reply.head.arena->copy(std::to_string(info.retry_after_s)));
  }
  reply.body = R"({"type":"https://remora.dev/problems/)";
  reply.body.append(info.name).append(R"(","title":")").append(info.title);
  reply.body.append(R"(","status":)").append(std::to_string(info.status));
  if (!detail.empty()) {
    reply.body.append(R"(,"detail":")");
    append_json_escaped(reply.body, detail);
    reply.body += '"';
  }
  reply.body += "}\n";
  reply.head.content_length = reply.body.size();
  if (is_head) reply.body.clear();
  return reply;
}

}  // namespace remora
