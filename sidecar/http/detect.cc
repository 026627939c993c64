#include "sidecar/http/detect.h"

#include <algorithm>
#include <string_view>

#include "sidecar/base/buffer.h"
#include "sidecar/http/fields.h"

namespace remora::http {

Protocol detect_protocol(std::span<const uint8_t> first_bytes) {
  static constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  static_assert(kPreface.size() == kDetectBytesMax);
  std::string_view bytes =
      as_text(first_bytes.first(std::min(first_bytes.size(), kDetectBytesMax)));

  const size_t compared = std::min(bytes.size(), kPreface.size());
  if (bytes.substr(0, compared) == kPreface.substr(0, compared)) {
    return compared == kPreface.size() ? Protocol::kHttp2 : Protocol::kUnknown;
  }
  // RFC 9112 section 2.2: empty lines before a request line are ignored.
  while (bytes.starts_with("\r\n")) bytes.remove_prefix(2);
  if (bytes.empty() || bytes == "\r") {
    return first_bytes.size() < kDetectBytesMax ? Protocol::kUnknown : Protocol::kOpaque;
  }
  size_t method_size = 0;
  while (method_size < bytes.size() &&
         all_of_class(bytes.substr(method_size, 1), char_class::kToken)) {
    ++method_size;
  }
  if (method_size == bytes.size()) {
    return first_bytes.size() < kDetectBytesMax ? Protocol::kUnknown : Protocol::kOpaque;
  }
  return method_size > 0 && bytes[method_size] == ' ' ? Protocol::kHttp1 : Protocol::kOpaque;
}

}  // namespace remora::http
