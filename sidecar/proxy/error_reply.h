// The one place where a Problem becomes a response.
#pragma once

#include <string>

#include "sidecar/http/message.h"
#include "sidecar/http/problem.h"

namespace remora {

struct ErrorReply {
  http::ResponseHead head;
  std::string body;  // empty for HEAD and for gRPC
};

// An RFC 9457 problem document; for a gRPC request a trailers-only response with grpc-status.
// detail, when given, is added for people; it must hold nothing secret.
ErrorReply make_error_reply(http::Problem problem, std::string_view detail, bool is_grpc,
                            bool is_head);

}  // namespace remora
