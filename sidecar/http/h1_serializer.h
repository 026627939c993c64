// Writes the parts of an HTTP/1.1 message (RFC 9112). Every function appends to one Buffer, so a
// head and a small body leave in one send.
//
// Invariant: names and values come from parsers or from our own code and hold no line break and no
// NUL. That is checked once more here, since a slip would let a peer write fields of its own; a
// violation is a bug and aborts.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "sidecar/base/buffer.h"
#include "sidecar/http/h1_parser.h"
#include "sidecar/http/message.h"

namespace remora::http {

enum class ConnectionOption : uint8_t { kNone, kClose, kKeepAlive };

// Content-Length is written when content_length is set, Transfer-Encoding when body is kChunked.
struct H1WriteOptions {
  BodyFraming body = BodyFraming::kNone;
  std::optional<uint64_t> content_length;
  ConnectionOption connection = ConnectionOption::kNone;
};

void write_request_head(const RequestHead& head, const H1WriteOptions& options, Buffer* out);
void write_response_head(const ResponseHead& head, const H1WriteOptions& options, Buffer* out);
// bytes must not be empty: an empty chunk ends the body.
void write_chunk(std::string_view bytes, Buffer* out);
// Trailers may be empty.
void write_last_chunk(const HeaderMap& trailers, Buffer* out);

// The usual reason phrase (RFC 9110 section 15), or "" for a status without one.
std::string_view reason_phrase(int status);

}  // namespace remora::http
