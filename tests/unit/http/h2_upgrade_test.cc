// Extended CONNECT (RFC 8441): WebSocket over HTTP/2.
#include <gtest/gtest.h>

#include "sidecar/http/h2_codec.h"
#include "tests/unit/http/h2_frames.h"

namespace remora::http {
namespace {

std::string upgrade_fields(std::string_view protocol = "websocket") {
  return request_fields("CONNECT", "/chat") + field(":protocol", protocol);
}

TEST(H2Upgrade, AnExtendedConnectIsACompleteGetThatAsksForAnUpgrade) {
  Server server;
  ASSERT_TRUE(server.feed(
      frame(kHeaders, kEndHeaders, 1, upgrade_fields() + field("sec-websocket-version", "13"))));
  EXPECT_EQ(server.events.lines.back(),
            "1 request GET http://x /chat upgrade=websocket [sec-websocket-version: 13] end");

  ResponseHead head = make_response(101);
  head.upgrade = "websocket";
  server.codec->send_response(1, head, false);
  server.codec->send_data(1, as_bytes("down"), false);
  const std::vector<Frame> frames = server.output();
  ASSERT_EQ(frames.size(), 2U);
  EXPECT_EQ(frames[0].payload, "\x88");  // :status 200 of the static table, and nothing else
  EXPECT_EQ(frames[1].payload, "down");

  ASSERT_TRUE(server.feed(frame(kData, 0, 1, "up")));
  EXPECT_EQ(server.events.body[1], "up");
  ASSERT_TRUE(server.feed(frame(kData, kEndStream, 1, "")));
  EXPECT_EQ(server.events.lines.back(), "1 end");
  server.codec->send_data(1, {}, true);
  server.output();
  EXPECT_TRUE(server.codec->idle());
}

TEST(H2Upgrade, AnUpgradeThatIsRefusedEndsLikeAnyAnswer) {
  Server server;
  ASSERT_TRUE(server.feed(frame(kHeaders, kEndHeaders, 1, upgrade_fields())));
  server.codec->send_response(1, make_response(403), true);
  EXPECT_EQ(error_code_of(server.output(), kRst), 0);  // the rest is not wanted
  EXPECT_TRUE(server.codec->idle());
}

TEST(H2Upgrade, BytesBeforeTheAnswerToAnUpgradeAreRefused) {
  for (const std::string_view bytes : {"early", ""}) {
    Server server;
    ASSERT_TRUE(server.feed(frame(kHeaders, kEndHeaders, 1, upgrade_fields())));
    ASSERT_TRUE(server.feed(frame(kData, bytes.empty() ? kEndStream : 0, 1, bytes)));
    EXPECT_EQ(server.events.lines.back(), "1 error protocol");
    EXPECT_EQ(error_code_of(server.output(), kRst), 1);
    EXPECT_TRUE(server.codec->idle());
  }
}

TEST(H2Upgrade, MalformedOnesAreResetWithoutAnEvent) {
  const auto error_of = [](const std::string& block, uint8_t flags = 0) {
    Server server;
    EXPECT_TRUE(server.feed(frame(kHeaders, static_cast<uint8_t>(kEndHeaders | flags), 1, block)));
    EXPECT_TRUE(server.events.lines.empty()) << server.events.joined();
    return error_code_of(server.output(), kRst);
  };
  EXPECT_EQ(error_of(upgrade_fields(), kEndStream), 1);
  EXPECT_EQ(error_of(upgrade_fields("web socket")), 1);
  EXPECT_EQ(error_of(request_fields("GET") + field(":protocol", "websocket")), 1);
  EXPECT_EQ(error_of(field(":method", "CONNECT") + field(":authority", "x") +
                     field(":protocol", "websocket")),
            1);
}

}  // namespace
}  // namespace remora::http
