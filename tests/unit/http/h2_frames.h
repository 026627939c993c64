// HTTP/2 frames by hand, and a server codec that gets and gives them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/http/codec_pair.h"

namespace remora::http {

inline constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Frame types (RFC 9113 section 6).
inline constexpr uint8_t kData = 0;
inline constexpr uint8_t kHeaders = 1;
inline constexpr uint8_t kRst = 3;
inline constexpr uint8_t kSettings = 4;
inline constexpr uint8_t kPing = 6;
inline constexpr uint8_t kGoaway = 7;
inline constexpr uint8_t kContinuation = 9;
inline constexpr uint8_t kEndStream = 1;
inline constexpr uint8_t kEndHeaders = 4;

inline std::string frame(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload) {
  std::string bytes;
  for (const int shift : {16, 8, 0}) bytes += static_cast<char>(payload.size() >> shift & 0xff);
  bytes += static_cast<char>(type);
  bytes += static_cast<char>(flags);
  for (const int shift : {24, 16, 8, 0}) bytes += static_cast<char>(stream >> shift & 0xff);
  return bytes.append(payload);
}

inline std::string number32(uint32_t value) {
  std::string bytes;
  for (const int shift : {24, 16, 8, 0}) bytes += static_cast<char>(value >> shift & 0xff);
  return bytes;
}

// HPACK literals without indexing (RFC 7541 section 6.2.2); lengths up to 16 Ki.
inline std::string hpack_length(size_t size) {
  if (size < 127) return std::string(1, static_cast<char>(size));
  size -= 127;
  return {'\x7f', static_cast<char>(0x80 | (size & 0x7f)), static_cast<char>(size >> 7)};
}
inline std::string field(std::string_view name, std::string_view value) {
  std::string bytes(1, '\0');
  bytes.append(hpack_length(name.size())).append(name);
  return bytes.append(hpack_length(value.size())).append(value);
}

inline std::string request_fields(std::string_view method = "GET", std::string_view path = "/") {
  return field(":method", method) + field(":scheme", "http") + field(":path", path) +
         field(":authority", "x");
}

struct Frame {
  uint8_t type;
  uint8_t flags;
  uint32_t stream;
  std::string payload;
};

inline std::vector<Frame> split_frames(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(bytes[i])); };
  std::vector<Frame> frames;
  while (bytes.size() >= 9) {
    const size_t size = byte(0) << 16 | byte(1) << 8 | byte(2);
    frames.push_back({static_cast<uint8_t>(byte(3)), static_cast<uint8_t>(byte(4)),
                      byte(5) << 24 | byte(6) << 16 | byte(7) << 8 | byte(8),
                      std::string(bytes.substr(9, size))});
    bytes.remove_prefix(9 + size);
  }
  return frames;
}

// Error code of the last frame of that type, -1 when there is none.
inline int64_t error_code_of(const std::vector<Frame>& frames, uint8_t type) {
  int64_t code = -1;
  for (const Frame& f : frames) {
    if (f.type != type) continue;
    const size_t at = type == kGoaway ? 4 : 0;
    code = 0;
    for (size_t i = at; i < at + 4; ++i) code = code << 8 | static_cast<uint8_t>(f.payload[i]);
  }
  return code;
}

struct Server {
  explicit Server(const CodecLimits& given = {}) : limits(given) {
    codec = make_h2_codec(Role::kServer, events, limits);
    EXPECT_TRUE(feed(std::string(kPreface) + frame(kSettings, 0, 0, "")));
    EXPECT_TRUE(feed(frame(kSettings, 1, 0, "")));
    output();
  }
  Result<void> feed(std::string_view bytes) { return codec->receive(as_bytes(bytes)); }
  std::vector<Frame> output() { return split_frames(take_output(*codec)); }

  CodecLimits limits;
  RecordingEvents events;
  std::unique_ptr<Codec> codec;
};

inline std::string get(uint32_t stream) {
  return frame(kHeaders, kEndHeaders | kEndStream, stream, request_fields());
}

}  // namespace remora::http
