// detect_protocol() on growing prefixes: an answer, once given, never changes, and comes within
// kDetectBytesMax bytes.
#include <algorithm>
#include <cstdlib>
#include <span>

#include "sidecar/http/detect.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using remora::http::Protocol;
  Protocol decided = Protocol::kUnknown;
  for (size_t n = 0; n <= size; ++n) {
    const Protocol now = remora::http::detect_protocol({data, n});
    if (decided != Protocol::kUnknown && now != decided) std::abort();
    if (now == Protocol::kUnknown && n >= remora::http::kDetectBytesMax) std::abort();
    decided = now;
  }
  return 0;
}
