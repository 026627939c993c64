// gRPC's messages on a stream (its PROTOCOL-HTTP2 document): each has five bytes before it, whether
// it is compressed and how long it is. Pure; no bytes crash it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "sidecar/base/buffer.h"
#include "sidecar/base/error.h"

namespace remora::link {

inline constexpr size_t frame_head_bytes = 5;
inline constexpr size_t message_bytes_max = 512 * 1024;

// message at most message_bytes_max.
std::string frame_of(std::string_view message);

class FrameReader {
 public:
  // message: valid during the call. False ends the reading: the rest is kept for the next one.
  using Message = std::function<bool(std::string_view message)>;

  // Errors: kLimitExceeded a message that is too long; kUnsupportedVersion one that is compressed;
  // kProtocol a first byte that is neither. Nothing more is read then.
  Result<void> read(std::span<const uint8_t> bytes, const Message& message);
  // A message has begun and not ended.
  bool in_message() const { return !kept_.empty(); }

 private:
  Buffer kept_;
};

}  // namespace remora::link
