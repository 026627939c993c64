#include "sidecar/proxy/upgrade_handshake.h"

#include <array>

#include <gtest/gtest.h>

namespace remora {
namespace {

http::RequestHead asking_for(std::string_view protocol) {
  http::RequestHead request;
  request.version = http::Version::kHttp2;
  request.method = "GET";
  request.upgrade = protocol;
  return request;
}

http::ResponseHead answer(int status, std::string_view protocol, std::string_view accept = {}) {
  http::ResponseHead response;
  response.status = status;
  response.upgrade = protocol;
  if (!accept.empty()) {
    response.headers.add("Sec-WebSocket-Accept", response.arena->copy(accept));
  }
  return response;
}

// The example of RFC 6455 section 1.3.
TEST(WebsocketAccept, IsWhatTheStandardSays) {
  EXPECT_EQ(websocket_accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

TEST(UpgradeHandshake, IsNeededForAnUpgradeOverHttp2Only) {
  http::RequestHead request = asking_for("websocket");
  EXPECT_TRUE(UpgradeHandshake::is_needed(request));
  request.version = http::Version::kHttp11;
  EXPECT_FALSE(UpgradeHandshake::is_needed(request));
  EXPECT_FALSE(UpgradeHandshake::is_needed(asking_for("")));
}

TEST(UpgradeHandshake, BringsAKeyOfItsOwnEachTime) {
  http::RequestHead first = asking_for("websocket");
  first.headers.add("sec-websocket-key", "the caller's");
  const UpgradeHandshake one(first);
  http::RequestHead second = asking_for("WebSocket");
  const UpgradeHandshake two(second);
  ASSERT_EQ(first.headers.count("sec-websocket-key"), 1U);
  EXPECT_EQ(first.headers.find("sec-websocket-key")->size(), 24U);
  EXPECT_NE(first.headers.find("sec-websocket-key"), second.headers.find("sec-websocket-key"));
}

TEST(UpgradeHandshake, TakesOnlyTheAnswerToItsKey) {
  http::RequestHead request = asking_for("websocket");
  const UpgradeHandshake handshake(request);
  const std::string accept = websocket_accept(*request.headers.find("sec-websocket-key"));
  http::ResponseHead good = answer(101, "WebSocket", accept);
  ASSERT_TRUE(handshake.check(good));
  EXPECT_TRUE(good.headers.empty());
  std::array bad_answers = {answer(101, "websocket"),
                            answer(101, "websocket", websocket_accept("other")),
                            answer(101, "h2c", accept), answer(200, ""), answer(204, "")};
  for (http::ResponseHead& bad : bad_answers) {
    const Result<void> checked = handshake.check(bad);
    ASSERT_FALSE(checked) << bad.status;
    EXPECT_EQ(checked.error().code, ErrorCode::kProtocol);
  }
}

TEST(UpgradeHandshake, ARefusalPasses) {
  http::RequestHead request = asking_for("websocket");
  const UpgradeHandshake handshake(request);
  for (const int status : {302, 400, 403, 426, 503}) {
    http::ResponseHead refusal = answer(status, "");
    EXPECT_TRUE(handshake.check(refusal)) << status;
  }
}

TEST(UpgradeHandshake, OtherProtocolsNeedNoKey) {
  http::RequestHead request = asking_for("connect-udp");
  const UpgradeHandshake handshake(request);
  EXPECT_TRUE(request.headers.empty());
  http::ResponseHead good = answer(101, "connect-udp");
  EXPECT_TRUE(handshake.check(good));
}

}  // namespace
}  // namespace remora
