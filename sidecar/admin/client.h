// A small blocking HTTP/1.1 client for the admin socket: for the commands, never for the loop.
#pragma once

#include <string>
#include <string_view>

#include "sidecar/base/clock.h"
#include "sidecar/base/error.h"

namespace remora {

inline constexpr size_t admin_reply_bytes_max = 64 << 20;

struct AdminReply {
  int status = 0;
  std::string body;
};

// One request on a connection of its own. Errors: kNotFound no such socket, kUnavailable nobody
// listens on it, kPermission, kTimeout no whole answer within timeout, kProtocol not HTTP/1.1,
// kLimitExceeded past admin_reply_bytes_max; messages name the socket. Any status is a success.
Result<AdminReply> admin_request(const std::string& socket_path, std::string_view method,
                                 std::string_view path, Duration timeout);

}  // namespace remora
