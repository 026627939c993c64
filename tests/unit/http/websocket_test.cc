#include "sidecar/http/websocket.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace remora::http {
namespace {

std::vector<uint8_t> frame(uint8_t first, uint64_t length, bool masked) {
  std::vector<uint8_t> bytes = {first};
  const uint8_t mask = masked ? 0x80 : 0;
  if (length < 126) {
    bytes.push_back(static_cast<uint8_t>(mask | length));
  } else if (length < 65'536) {
    bytes.push_back(static_cast<uint8_t>(mask | 126));
    for (int shift = 8; shift >= 0; shift -= 8) {
      bytes.push_back(static_cast<uint8_t>(length >> shift));
    }
  } else {
    bytes.push_back(static_cast<uint8_t>(mask | 127));
    for (int shift = 56; shift >= 0; shift -= 8) {
      bytes.push_back(static_cast<uint8_t>(length >> shift));
    }
  }
  bytes.insert(bytes.end(), masked ? 4 : 0, 0xaa);
  // Payload that looks like frames must not be taken for any.
  bytes.insert(bytes.end(), length, 0x88);
  return bytes;
}

TEST(WebSocketFramesTest, OnlyTheLastByteOfAFrameEndsIt) {
  for (const uint64_t length : {0ULL, 1ULL, 125ULL, 126ULL, 65'535ULL, 65'536ULL}) {
    for (const bool masked : {false, true}) {
      WebSocketFrames frames;
      const std::vector<uint8_t> bytes = frame(0x82, length, masked);
      EXPECT_TRUE(frames.takes_control_frame());
      for (size_t i = 0; i + 1 < bytes.size(); ++i) {
        frames.receive({&bytes[i], 1});
        ASSERT_FALSE(frames.takes_control_frame()) << length << " at " << i;
      }
      frames.receive({&bytes.back(), 1});
      EXPECT_TRUE(frames.takes_control_frame()) << length;
    }
  }
}

TEST(WebSocketFramesTest, ManyInOnePiece) {
  WebSocketFrames frames;
  std::vector<uint8_t> bytes;
  for (const uint64_t length : {3, 300, 70'000}) {
    const std::vector<uint8_t> one = frame(0x01, length, false);
    bytes.insert(bytes.end(), one.begin(), one.end());
  }
  frames.receive(bytes);
  EXPECT_TRUE(frames.takes_control_frame());
}

TEST(WebSocketFramesTest, NothingFollowsACloseFrame) {
  WebSocketFrames frames;
  frames.receive(websocket_close_frame(kWebSocketGoingAway));
  EXPECT_FALSE(frames.takes_control_frame());
}

TEST(WebSocketFramesTest, ALengthBeyondAllMemoryIsOnlyCounted) {
  WebSocketFrames frames;
  const std::vector<uint8_t> header = {0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  frames.receive(header);
  frames.receive(std::vector<uint8_t>(100'000, 0x88));
  EXPECT_FALSE(frames.takes_control_frame());
}

TEST(WebSocketCloseFrameTest, CarriesItsCode) {
  const auto bytes = websocket_close_frame(1012);
  EXPECT_EQ(std::vector<uint8_t>(bytes.begin(), bytes.end()),
            (std::vector<uint8_t>{0x88, 0x02, 0x03, 0xf4}));
}

}  // namespace
}  // namespace remora::http
