#include "k8s/link/frame.h"

namespace remora::link {
namespace {

uint32_t length_of(std::string_view head) {
  uint32_t length = 0;
  for (size_t i = 1; i < frame_head_bytes; ++i) {
    length = length << 8 | static_cast<uint8_t>(head[i]);
  }
  return length;
}

std::unexpected<Error> bad(ErrorCode code, std::string message) {
  return make_error(code, ErrorSource::kDownstream, std::move(message));
}

}  // namespace

std::string frame_of(std::string_view message) {
  const auto length = static_cast<uint32_t>(message.size());
  std::string frame;
  frame.reserve(frame_head_bytes + message.size());
  frame += '\0';
  for (int shift = 24; shift >= 0; shift -= 8) frame += static_cast<char>(length >> shift & 0xff);
  return frame.append(message);
}

Result<void> FrameReader::read(std::span<const uint8_t> bytes, const Message& message) {
  kept_.append(bytes);
  while (kept_.size() >= frame_head_bytes) {
    const std::string_view all = kept_.view();
    if (all[0] == '\1') return bad(ErrorCode::kUnsupportedVersion, "a message is compressed");
    if (all[0] != '\0') return bad(ErrorCode::kProtocol, "this is no message of gRPC");
    const uint32_t length = length_of(all);
    if (length > message_bytes_max) {
      return bad(ErrorCode::kLimitExceeded, "a message of " + std::to_string(length) +
                                                " bytes; at most " +
                                                std::to_string(message_bytes_max) + " are taken");
    }
    if (all.size() < frame_head_bytes + length) return {};
    const std::string whole(all.substr(frame_head_bytes, length));
    kept_.consume(frame_head_bytes + length);
    if (!message(whole)) return {};
  }
  return {};
}

}  // namespace remora::link
