// What parse_proxy_request() sends on is a head by its own measure, of one request, that names the
// host it goes to.
#include <cstdlib>
#include <string_view>

#include "sidecar/proxy/proxy_request.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t head = remora::proxy_head_bytes(text);
  if (head == 0) return 0;
  const auto request = remora::parse_proxy_request(text.substr(0, head));
  if (!request) return 0;
  if (request->host.empty() || request->port == 0) std::abort();
  if (request->is_connect != request->head.empty()) std::abort();
  if (!request->is_connect && remora::proxy_head_bytes(request->head) != request->head.size()) {
    std::abort();
  }
  return 0;
}
