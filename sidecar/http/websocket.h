// Where one frame ends and the next begins in the bytes of a WebSocket (RFC 6455 section 5.2): so
// that a Close frame can be put between two. The content of frames is not looked at.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace remora::http {

// Status code of a Close frame (RFC 6455 section 7.4.1).
inline constexpr uint16_t kWebSocketGoingAway = 1001;

class WebSocketFrames {
 public:
  void receive(std::span<const uint8_t> bytes);
  // No frame is under way, and no Close frame went by, after which nothing may follow. Control
  // frames may stand between the fragments of a message.
  bool takes_control_frame() const { return header_size_ == 0 && payload_left_ == 0 && !closed_; }

 private:
  bool header_is_complete() const;
  void begin_payload();

  static constexpr size_t header_bytes_max = 14;  // two, eight of length, four of masking key
  std::array<uint8_t, header_bytes_max> header_{};
  size_t header_size_ = 0;
  uint64_t payload_left_ = 0;
  bool closed_ = false;
};

// What a server sends to end a WebSocket: one unmasked Close frame without a reason.
std::array<uint8_t, 4> websocket_close_frame(uint16_t code);

}  // namespace remora::http
