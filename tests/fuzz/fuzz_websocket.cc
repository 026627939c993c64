// WebSocketFrames says the same however the bytes are cut into pieces.
#include <algorithm>
#include <cstdlib>
#include <span>

#include "sidecar/http/websocket.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t piece = size_t{data[0]} + 1;
  const std::span<const uint8_t> bytes(data + 1, size - 1);
  remora::http::WebSocketFrames whole;
  whole.receive(bytes);
  remora::http::WebSocketFrames pieces;
  for (size_t at = 0; at < bytes.size(); at += piece) {
    pieces.receive(bytes.subspan(at, std::min(piece, bytes.size() - at)));
  }
  if (whole.takes_control_frame() != pieces.takes_control_frame()) std::abort();
  return 0;
}
