#include "sidecar/http/websocket.h"

#include <algorithm>

namespace remora::http {
namespace {

constexpr uint8_t opcode_mask = 0x0f;
constexpr uint8_t opcode_close = 0x08;
constexpr uint8_t masked_bit = 0x80;
constexpr uint8_t length_mask = 0x7f;
constexpr uint8_t length_is_16_bits = 126;
constexpr uint8_t length_is_64_bits = 127;

size_t extended_length_bytes(uint8_t second) {
  const uint8_t length = second & length_mask;
  return length == length_is_64_bits ? 8 : length == length_is_16_bits ? 2 : 0;
}

}  // namespace

bool WebSocketFrames::header_is_complete() const {
  if (header_size_ < 2) return false;
  const size_t mask = (header_[1] & masked_bit) != 0 ? 4 : 0;
  return header_size_ == 2 + extended_length_bytes(header_[1]) + mask;
}

void WebSocketFrames::begin_payload() {
  closed_ = closed_ || (header_[0] & opcode_mask) == opcode_close;
  const size_t extended = extended_length_bytes(header_[1]);
  uint64_t length = extended == 0 ? header_[1] & length_mask : 0;
  for (size_t i = 0; i < extended; ++i) length = length << 8 | header_[2 + i];
  payload_left_ = length;
  header_size_ = 0;
}

void WebSocketFrames::receive(std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    if (payload_left_ > 0) {
      const auto skipped = static_cast<size_t>(std::min<uint64_t>(payload_left_, bytes.size()));
      payload_left_ -= skipped;
      bytes = bytes.subspan(skipped);
      continue;
    }
    header_[header_size_++] = bytes.front();
    bytes = bytes.subspan(1);
    if (header_is_complete()) begin_payload();
  }
}

std::array<uint8_t, 4> websocket_close_frame(uint16_t code) {
  return {0x88, 0x02, static_cast<uint8_t>(code >> 8), static_cast<uint8_t>(code & 0xff)};
}

}  // namespace remora::http
