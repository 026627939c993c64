// Which protocol do these first bytes speak? Pure; called again as more arrive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace remora::http {

enum class Protocol {
  kUnknown,  // more bytes are needed to tell
  kHttp1,    // a request line: a method of token characters, then a space
  kHttp2,    // the connection preface (RFC 9113 section 3.4)
  kOpaque,   // anything else: relay the bytes as they are
};

// Decides with at most kDetectBytesMax bytes.
inline constexpr size_t kDetectBytesMax = 24;
Protocol detect_protocol(std::span<const uint8_t> first_bytes);

}  // namespace remora::http
