// The head of a request to an explicit HTTP proxy (RFC 9110 section 9.3.6, RFC 9112 section 3.2):
// where it goes, and what is sent there. Pure; any bytes may come.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "sidecar/base/error.h"

namespace remora {

inline constexpr size_t proxy_request_bytes_max = 64 * 1024;

struct ProxyRequest {
  bool is_connect = false;
  std::string host;  // name or address, without brackets
  uint16_t port = 0;
  // Of the request as the server gets it: origin form, the hop's own fields left out, and one
  // request for one connection. Empty for CONNECT.
  std::string head;
};

// How many bytes of text are the head, its empty line included; 0: it is not complete.
size_t proxy_head_bytes(std::string_view text);

// head as proxy_head_bytes() says. kInvalidArgument says what is wrong, for a 400.
Result<ProxyRequest> parse_proxy_request(std::string_view head);

}  // namespace remora
