// An upgrade that a caller asks for over HTTP/2 (extended CONNECT, RFC 8441) and the agent answers
// in HTTP/1.1. Any success would open the caller's stream, so only a 101 may become one. And a
// WebSocket's opening has a part that HTTP/2 leaves out (Sec-WebSocket-Key and -Accept, RFC 6455
// section 4): towards the agent the proxy plays it.
#pragma once

#include <string>
#include <string_view>

#include "sidecar/base/error.h"
#include "sidecar/http/message.h"

namespace remora {

// What a server must answer to key (RFC 6455 section 4.2.2, step 5.4).
std::string websocket_accept(std::string_view key);

class UpgradeHandshake {
 public:
  // Whether the request, as the session got it, needs one.
  static bool is_needed(const http::RequestHead& request);

  // Adds what the agent expects.
  explicit UpgradeHandshake(http::RequestHead& request);

  // Checks the agent's answer and takes out what the caller does not expect. Error kProtocol: a
  // success that is none of this upgrade; any refusal is fine.
  Result<void> check(http::ResponseHead& response) const;

 private:
  std::string protocol_;
  std::string key_;  // WebSocket
};

}  // namespace remora
