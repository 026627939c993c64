#include "sidecar/http/detect.h"

#include <string_view>

#include <gtest/gtest.h>

#include "sidecar/base/buffer.h"

namespace remora::http {
namespace {

Protocol detect(std::string_view bytes) { return detect_protocol(as_bytes(bytes)); }

TEST(Detect, Http1NeedsAMethodAndASpace) {
  EXPECT_EQ(detect(""), Protocol::kUnknown);
  EXPECT_EQ(detect("GET"), Protocol::kUnknown);
  EXPECT_EQ(detect("GET "), Protocol::kHttp1);
  EXPECT_EQ(detect("X-PURGE /"), Protocol::kHttp1);
  EXPECT_EQ(detect("\r\n"), Protocol::kUnknown);
  EXPECT_EQ(detect("\r\nGET /"), Protocol::kHttp1);
}

TEST(Detect, Http2NeedsTheWholePreface) {
  EXPECT_EQ(detect("PRI * HTTP/2.0\r\n\r\nSM\r\n\r"), Protocol::kUnknown);
  EXPECT_EQ(detect("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore"), Protocol::kHttp2);
  EXPECT_EQ(detect("PRI * HTTP/1.1\r\n"), Protocol::kHttp1);
}

TEST(Detect, AnythingElseIsOpaque) {
  EXPECT_EQ(detect("\x16\x03\x01"), Protocol::kOpaque);
  EXPECT_EQ(detect("SSH-2.0-OpenSSH_9.2\r\n"), Protocol::kOpaque);
  EXPECT_EQ(detect(" GET"), Protocol::kOpaque);
  EXPECT_EQ(detect("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), Protocol::kOpaque);
}

}  // namespace
}  // namespace remora::http
