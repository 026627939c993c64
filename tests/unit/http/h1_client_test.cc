// The client role of the HTTP/1.1 codec.
#include <gtest/gtest.h>

#include "sidecar/http/h1_codec.h"
#include "tests/unit/http/codec_pair.h"

namespace remora::http {
namespace {

// A client codec and what it has been told.
struct Client {
  Client() { codec = make_h1_codec(Role::kClient, events, limits); }
  Result<void> feed(std::string_view bytes) { return codec->receive(as_bytes(bytes)); }
  StreamId get(std::string_view method = "GET") {
    const auto id = codec->send_request(make_request(method, "/"), true);
    EXPECT_TRUE(id);
    take_output(*codec);
    return id.value_or(-1);
  }

  CodecLimits limits;
  RecordingEvents events;
  std::unique_ptr<Codec> codec;
};

TEST(H1Client, KnowsBodilessResponses) {
  Client client;
  client.get("HEAD");
  ASSERT_TRUE(client.feed("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"));
  client.get();
  ASSERT_TRUE(client.feed("HTTP/1.1 204 No Content\r\n\r\n"));
  client.get();
  ASSERT_TRUE(client.feed("HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n"));
  EXPECT_EQ(client.events.joined(),
            "1 response 200 length=10 end\n2 response 204 end\n3 response 304 length=10 end\n");
  EXPECT_TRUE(client.codec->can_open());
}

TEST(H1Client, ReadsABodyUntilClose) {
  Client client;
  client.get();
  ASSERT_TRUE(client.feed("HTTP/1.1 200 OK\r\n\r\nabc"));
  ASSERT_TRUE(client.feed("def"));
  client.codec->receive_eof();
  EXPECT_EQ(client.events.joined(), "1 response 200\n1 data abcdef\n1 end\n");
  EXPECT_FALSE(client.codec->can_open());
  EXPECT_TRUE(client.codec->close_after_flush());
}

TEST(H1Client, EofInsideABodyIsAPeerReset) {
  Client client;
  client.get();
  ASSERT_TRUE(client.feed("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"));
  client.codec->receive_eof();
  EXPECT_EQ(client.events.lines.back(), "1 error peer-reset");
}

TEST(H1Client, ARequestThatNeverLeftIsRefusedAndOneThatDidIsNot) {
  Client unsent;
  ASSERT_TRUE(unsent.codec->send_request(make_request("POST", "/"), true));
  unsent.codec->receive_eof();
  EXPECT_EQ(unsent.events.lines.back(), "1 error refused");

  Client sent;
  ASSERT_TRUE(sent.codec->send_request(make_request("POST", "/"), true));
  ASSERT_FALSE(sent.codec->pending_output().empty());
  sent.codec->wrote(1);
  sent.codec->receive_eof();
  EXPECT_EQ(sent.events.lines.back(), "1 error peer-reset");
}

TEST(H1Client, AnEarlyResponseIsDeliveredAndEndsTheConnection) {
  Client client;
  const auto id = client.codec->send_request(make_request("POST", "/"), false);
  ASSERT_TRUE(id);
  client.codec->send_data(*id, as_bytes("part"), false);
  ASSERT_TRUE(client.feed("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"));
  EXPECT_EQ(client.events.joined(), "1 response 413 length=2\n1 data no\n1 end\n");
  EXPECT_FALSE(client.codec->can_open());
  EXPECT_TRUE(client.codec->close_after_flush());
  EXPECT_TRUE(client.codec->idle());
  client.codec->reset(*id);
  client.codec->send_data(*id, as_bytes("late"), true);
  EXPECT_TRUE(client.codec->close_after_flush());
}

TEST(H1Client, BytesBehindAResponseNeverAnswerTheNextRequest) {
  Client client;
  client.events.end_hook = [&](StreamId) { EXPECT_FALSE(client.codec->can_open()); };
  client.get();
  ASSERT_TRUE(
      client.feed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                  "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"));
  EXPECT_EQ(client.events.joined(), "1 response 200 length=2\n1 data ok\n1 end\n");
  EXPECT_TRUE(client.codec->close_after_flush());

  Client idle;
  ASSERT_FALSE(idle.feed("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
  EXPECT_FALSE(idle.codec->can_open());
}

TEST(H1Client, InterimResponsesAreBounded) {
  Client client;
  client.get();
  Result<void> result;
  int fed = 0;
  for (; result && fed < 10'000; ++fed) result = client.feed("HTTP/1.1 102 Processing\r\n\r\n");
  EXPECT_FALSE(result);
  EXPECT_EQ(fed, H1Codec::informational_responses_max + 1);
}

TEST(H1Client, SerialisesHostFirstAndChoosesTheFraming) {
  Client client;
  RequestHead head = make_request("POST", "/p");
  head.headers.add("A", "b");
  head.headers.add("Connection", "evil");
  head.headers.add("Content-Length", "99");
  ASSERT_TRUE(client.codec->send_request(head, false));
  client.codec->send_data(1, as_bytes("0123456789abcdef"), true);
  EXPECT_EQ(take_output(*client.codec),
            "POST /p HTTP/1.1\r\nHost: agent.test:8080\r\nA: b\r\nTransfer-Encoding: "
            "chunked\r\n\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n");

  Client empty;
  ASSERT_TRUE(empty.codec->send_request(make_request("POST", "/p"), true));
  EXPECT_EQ(take_output(*empty.codec),
            "POST /p HTTP/1.1\r\nHost: agent.test:8080\r\nContent-Length: 0\r\n\r\n");
}

TEST(H1Client, UpgradesAndRefusesToReuse) {
  Client client;
  RequestHead head = make_request("GET", "/ws");
  head.upgrade = "websocket";
  ASSERT_TRUE(client.codec->send_request(head, true));
  EXPECT_EQ(take_output(*client.codec),
            "GET /ws HTTP/1.1\r\nHost: agent.test:8080\r\nUpgrade: websocket\r\nConnection: "
            "Upgrade\r\n\r\n");
  ASSERT_TRUE(
      client.feed("HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nraw"));
  EXPECT_EQ(client.events.joined(), "1 response 101 upgrade=websocket\n");
  EXPECT_EQ(client.events.body[1], "raw");
  client.codec->send_data(1, as_bytes("up"), true);
  EXPECT_EQ(take_output(*client.codec), "up");
  EXPECT_TRUE(client.codec->shutdown_write_after_flush());
  client.codec->receive_eof();
  EXPECT_EQ(client.events.lines.back(), "1 end");
  EXPECT_TRUE(client.codec->close_after_flush());
}

}  // namespace
}  // namespace remora::http
