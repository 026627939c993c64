#include "sidecar/http/h1_codec.h"

#include <gtest/gtest.h>

#include "tests/unit/http/recording_events.h"

namespace remora::http {
namespace {

TEST(H1Server, ReadsARequest) {
  RecordingEvents events;
  const CodecLimits limits;
  const auto codec = make_h1_codec(Role::kServer, events, limits);
  ASSERT_TRUE(codec->receive(as_bytes("GET /a?b=c HTTP/1.1\r\nHost: x:80\r\nAccept: */*\r\n\r\n")));
  EXPECT_EQ(events.joined(), "1 request GET http://x:80 /a?b=c [Accept: */*] end\n");
}

}  // namespace
}  // namespace remora::http
