#include "sidecar/http/h2_codec.h"

#include <gtest/gtest.h>

#include "tests/unit/http/codec_pair.h"
#include "tests/unit/http/h2_frames.h"

namespace remora::http {
namespace {

TEST(H2Server, OpenThenResetFloodEndsWithEnhanceYourCalm) {
  Server server;
  server.events.request_hook = [&](StreamId, const RequestHead&, bool) {};
  Result<void> result;
  uint32_t pairs = 0;
  for (; result && pairs < 20'000; ++pairs) {
    const uint32_t id = 2 * pairs + 1;
    result = server.feed(get(id) + frame(kRst, 0, id, number32(8)));
  }
  ASSERT_FALSE(result);
  EXPECT_LE(pairs, server.limits.reset_burst_max + 100);
  EXPECT_EQ(error_code_of(server.output(), kGoaway), 11);
  EXPECT_TRUE(server.codec->close_after_flush());
  EXPECT_TRUE(server.codec->idle());
}

TEST(H2Server, MalformedRequestFloodEndsWithEnhanceYourCalm) {
  Server server;
  Result<void> result;
  uint32_t requests = 0;
  for (; result && requests < 20'000; ++requests) {
    result = server.feed(
        frame(kHeaders, kEndHeaders | kEndStream, 2 * requests + 1, request_fields("GET", "bad")));
    if (result) server.output();
  }
  ASSERT_FALSE(result);
  EXPECT_LE(requests, 2 * server.limits.reset_burst_max);
  EXPECT_EQ(result.error().code, ErrorCode::kLimitExceeded);
  EXPECT_TRUE(server.events.lines.empty());
}

TEST(H2Server, EndlessContinuationIsCutOff) {
  Server server;
  Result<void> result = server.feed(frame(kHeaders, kEndStream, 1, request_fields()));
  int frames = 0;
  for (; result && frames < 10'000; ++frames) {
    result = server.feed(frame(kContinuation, 0, 1, ""));
  }
  EXPECT_FALSE(result);
  EXPECT_LE(frames, 16);
  EXPECT_TRUE(server.codec->close_after_flush());
}

TEST(H2Server, ALegitimateBlockOfFiveFramesPasses) {
  Server server;
  std::string block = request_fields();
  for (int i = 0; i < 6; ++i) {
    block += field("x-" + std::to_string(i), std::string(10'000, 'v'));
  }
  const size_t part = 15'000;
  ASSERT_TRUE(server.feed(frame(kHeaders, kEndStream, 1, block.substr(0, part))));
  for (size_t at = part; at < block.size(); at += part) {
    const bool last = at + part >= block.size();
    ASSERT_TRUE(server.feed(
        frame(kContinuation, last ? kEndHeaders : 0, 1, std::string_view(block).substr(at, part))));
  }
  ASSERT_EQ(server.events.lines.size(), 1U);
  EXPECT_TRUE(server.events.lines[0].starts_with("1 request GET http://x / [x-0: vvv"));
}

TEST(H2Server, PingFloodOfAPeerThatNeverReadsIsCutOff) {
  Server server;
  Result<void> result;
  int pings = 0;
  for (; result && pings < 100'000; ++pings) {
    result = server.feed(frame(kPing, 0, 0, "12345678"));
  }
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kLimitExceeded);
  EXPECT_LT(pings, 10'000);
  EXPECT_TRUE(server.codec->close_after_flush());
}

TEST(H2Server, RequestsOfAPeerThatNeverReadsStopAtTheOutputLimit) {
  Server server;
  server.events.request_hook = [&](StreamId id, const RequestHead&, bool) {
    ResponseHead head = make_response(200);
    head.headers.add("x-big", std::string_view("0123456789abcdef0123456789abcdef"));
    server.codec->send_response(id, head, true);
  };
  uint32_t requests = 0;
  Result<void> result;
  while (result && server.codec->wants_read() && requests < 100'000) {
    result = server.feed(get(2 * requests++ + 1));
  }
  ASSERT_TRUE(result);
  EXPECT_LT(requests, 100'000U);
  EXPECT_LE(take_output(*server.codec).size(), 2 * H2Codec::output_bytes_paused);
}

TEST(H2Server, HeadersPastTheLimitGet431AndUrlsPastTheirs414) {
  CodecLimits limits;
  limits.header_bytes_max = 1000;
  limits.url_bytes_max = 100;
  Server server(limits);
  ASSERT_TRUE(server.feed(frame(kHeaders, kEndHeaders | kEndStream, 1,
                                request_fields() + field("a", std::string(2000, 'v')))));
  ASSERT_TRUE(server.feed(frame(kHeaders, kEndHeaders | kEndStream, 3,
                                request_fields("GET", "/" + std::string(200, 'u')))));
  ASSERT_TRUE(server.feed(get(5)));
  EXPECT_EQ(server.events.joined(), "5 request GET http://x / end\n");

  CodecPair pair(Version::kHttp2, 0, limits);
  RequestHead head = make_request("GET", "/");
  const std::string big(1200, 'v');
  head.headers.add("a", big);
  ASSERT_TRUE(pair.client->send_request(head, true));
  const std::string url = "/" + big;
  ASSERT_TRUE(pair.client->send_request(make_request("POST", url), false));
  EXPECT_TRUE(pair.run());
  EXPECT_EQ(pair.client_events.joined(), "1 response 431 end\n3 response 414 end\n");
}

TEST(H2Server, MalformedRequestsAreResetWithoutAnEvent) {
  const auto error_of = [](const std::string& block) {
    Server server;
    EXPECT_TRUE(server.feed(frame(kHeaders, kEndHeaders | kEndStream, 1, block)));
    EXPECT_TRUE(server.events.lines.empty()) << server.events.joined();
    const int64_t code = error_code_of(server.output(), kRst);
    EXPECT_TRUE(server.codec->idle());
    return code;
  };
  EXPECT_EQ(error_of(request_fields("GET", "/a b")), 1);
  EXPECT_EQ(error_of(request_fields("GET", "/a#b")), 1);
  EXPECT_EQ(error_of(request_fields("GET", "/\x80")), 1);
  EXPECT_EQ(error_of(request_fields("G T")), 1);
  EXPECT_EQ(error_of(request_fields() + field("host", "y")), 1);
  EXPECT_EQ(error_of(request_fields() + field("Upper", "y")), 1);
  EXPECT_EQ(error_of(request_fields() + field("connection", "close")), 1);
  EXPECT_EQ(error_of(request_fields() + field("transfer-encoding", "chunked")), 1);
  EXPECT_EQ(error_of(request_fields() + field("a", "b\r\nc: d")), 1);
  EXPECT_EQ(error_of(request_fields() + field("content-length", "5")), 1);
  EXPECT_EQ(error_of(request_fields() + field("content-length", "+5")), 1);
  EXPECT_EQ(error_of(request_fields() + field(":method", "GET")), 1);
  EXPECT_EQ(error_of(field(":method", "GET") + field(":path", "/")), 1);
}

TEST(H2Server, ABodyOfAnotherLengthThanAnnouncedIsAStreamError) {
  for (const std::string_view body : {"abc", "abcdefgh"}) {
    Server server;
    ASSERT_TRUE(server.feed(
        frame(kHeaders, kEndHeaders, 1, request_fields("POST") + field("content-length", "5"))));
    ASSERT_TRUE(server.feed(frame(kData, kEndStream, 1, body)));
    EXPECT_EQ(server.events.lines.back(), "1 error protocol") << server.events.joined();
    EXPECT_EQ(error_code_of(server.output(), kRst), 1);
    ASSERT_TRUE(server.feed(get(3)));
    EXPECT_EQ(server.events.lines.back(), "3 request GET http://x / end");
  }
}

TEST(H2Server, JoinsCookiesAndTakesHostForAuthority) {
  Server server;
  ASSERT_TRUE(server.feed(frame(
      kHeaders, kEndHeaders | kEndStream, 1,
      field(":method", "GET") + field(":scheme", "http") + field(":path", "/") +
          field("host", "y") + field("cookie", "a=1") + field("x", "1") + field("cookie", "b=2"))));
  EXPECT_EQ(server.events.joined(), "1 request GET http://y / [cookie: a=1; b=2] [x: 1] end\n");
}

TEST(H2Server, ACancelledStreamIsReported) {
  Server server;
  ASSERT_TRUE(server.feed(get(1)));
  server.codec->send_response(1, make_response(200), false);
  server.codec->send_data(1, as_bytes("part"), false);
  server.output();
  ASSERT_TRUE(server.feed(frame(kRst, 0, 1, number32(8))));
  EXPECT_EQ(server.events.lines.back(), "1 error peer-reset");
  EXPECT_TRUE(server.codec->idle());
  server.codec->send_data(1, as_bytes("late"), true);
  EXPECT_TRUE(server.output().empty());
}

TEST(H2Server, AReplyBeforeTheEndOfTheBodyIsFollowedByAResetWithoutError) {
  Server server;
  ASSERT_TRUE(server.feed(frame(kHeaders, kEndHeaders, 1, request_fields("POST"))));
  server.codec->send_response(1, make_response(413), true);
  const auto frames = server.output();
  EXPECT_EQ(error_code_of(frames, kRst), 0);
  EXPECT_EQ(frames.front().type, kHeaders);
  ASSERT_TRUE(server.feed(frame(kData, 0, 1, "ignored")));
  EXPECT_EQ(server.events.lines.size(), 1U);
  EXPECT_TRUE(server.codec->idle());
}

TEST(H2Server, GarbageInsteadOfThePrefaceIsAnError) {
  RecordingEvents events;
  const auto codec = make_h2_codec(Role::kServer, events, CodecLimits());
  ASSERT_FALSE(codec->receive(as_bytes("GET / HTTP/1.1\r\nHost: x\r\n\r\n")));
  EXPECT_TRUE(codec->close_after_flush());
}

TEST(H2, OneStalledStreamDoesNotStopAnother) {
  CodecPair pair(Version::kHttp2);
  const std::string megabyte(1 << 20, 'a');
  size_t stalled = 0;
  pair.server_events.data_hook = [&](StreamId id, std::span<const uint8_t> bytes) {
    if (id == 1) {
      stalled += bytes.size();
    } else {
      pair.server->consume(id, bytes.size());
    }
  };
  const auto a = pair.client->send_request(make_request("POST", "/stalled"), false);
  ASSERT_TRUE(a);
  pair.client->send_data(*a, as_bytes(megabyte), true);
  ASSERT_TRUE(pair.run());
  EXPECT_EQ(stalled, kReceiveWindowBytes);
  const auto b = pair.client->send_request(make_request("POST", "/other"), false);
  ASSERT_TRUE(b);
  pair.client->send_data(*b, as_bytes(megabyte), false);
  pair.client->send_data(*b, as_bytes(megabyte), true);
  ASSERT_TRUE(pair.run());
  EXPECT_EQ(pair.server_events.lines.back(), "3 end");
}

TEST(H2, AGrpcErrorWithoutABodyKeepsItsStatus) {
  CodecPair pair(Version::kHttp2);
  pair.server_events.request_hook = [&](StreamId id, const RequestHead&, bool) {
    ResponseHead head = make_response(200);
    head.headers.add("grpc-status", "5");
    head.headers.add("grpc-message", "no such thing");
    pair.server->send_response(id, head, true);
  };
  ASSERT_TRUE(pair.client->send_request(make_request("POST", "/s/m"), false));
  ASSERT_TRUE(pair.run());
  EXPECT_EQ(pair.client_events.lines.front(),
            "1 response 200 [grpc-status: 5] [grpc-message: no such thing] end");
}

TEST(H2, CancellingPassesOnAndFreesTheStream) {
  CodecPair pair(Version::kHttp2);
  const auto id = pair.client->send_request(make_request("POST", "/"), false);
  ASSERT_TRUE(id);
  ASSERT_TRUE(pair.run());
  pair.client->reset(*id);
  ASSERT_TRUE(pair.run());
  EXPECT_EQ(pair.server_events.lines.back(), "1 error peer-reset");
  EXPECT_EQ(pair.client_events.lines.size(), 0U);
  EXPECT_TRUE(pair.client->idle());
  EXPECT_TRUE(pair.server->idle());
}

struct Client {
  Client() {
    codec = make_h2_codec(Role::kClient, events, limits);
    EXPECT_TRUE(feed(frame(kSettings, 0, 0, "")));
    take_output(*codec);
  }
  Result<void> feed(std::string_view bytes) { return codec->receive(as_bytes(bytes)); }
  void open(int n) {
    for (int i = 0; i < n; ++i) {
      ASSERT_TRUE(codec->send_request(make_request("POST", "/"), true));
    }
    take_output(*codec);
  }

  CodecLimits limits;
  RecordingEvents events;
  std::unique_ptr<Codec> codec;
};

TEST(H2Client, StreamsAboveGoawaysLastIdAreRefusedAndTheOthersFinish) {
  Client client;
  client.open(3);
  ASSERT_TRUE(client.feed(frame(kGoaway, 0, 0, number32(1) + number32(0))));
  EXPECT_EQ(client.events.joined(), "3 error refused\n5 error refused\n");
  EXPECT_EQ(client.events.goaways, 1);
  EXPECT_FALSE(client.codec->can_open());
  EXPECT_FALSE(client.codec->close_after_flush());
  ASSERT_TRUE(client.feed(frame(kHeaders, kEndHeaders | kEndStream, 1, field(":status", "200"))));
  EXPECT_EQ(client.events.lines.back(), "1 response 200 end");
  EXPECT_TRUE(client.codec->close_after_flush());
}

TEST(H2Client, RefusedStreamIsRetryableAndOtherResetsAreNot) {
  Client client;
  client.open(2);
  ASSERT_TRUE(client.feed(frame(kRst, 0, 1, number32(7))));
  EXPECT_EQ(client.events.lines.back(), "1 error refused");
  EXPECT_TRUE(client.events.last_error.retryable);
  ASSERT_TRUE(client.feed(frame(kRst, 0, 3, number32(2))));
  EXPECT_EQ(client.events.lines.back(), "3 error peer-reset");
}

TEST(H2Client, KeepsToThePeersStreamLimit) {
  Client client;
  ASSERT_TRUE(client.feed(frame(kSettings, 0, 0, std::string("\0\3", 2) + number32(2))));
  client.open(2);
  EXPECT_FALSE(client.codec->can_open());
  const auto refused = client.codec->send_request(make_request("GET", "/"), true);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  ASSERT_TRUE(client.feed(frame(kHeaders, kEndHeaders | kEndStream, 1, field(":status", "200"))));
  EXPECT_TRUE(client.codec->can_open());
}

TEST(H2Client, EofFailsEveryStream) {
  Client client;
  client.open(2);
  client.codec->receive_eof();
  EXPECT_EQ(client.events.joined(), "1 error peer-reset\n3 error peer-reset\n");
  EXPECT_TRUE(client.codec->close_after_flush());
}

TEST(H2Client, AMalformedResponseIsAStreamError) {
  Client client;
  client.open(2);
  ASSERT_TRUE(client.feed(frame(kHeaders, kEndHeaders | kEndStream, 1, field(":status", "999"))));
  EXPECT_EQ(client.events.lines.back(), "1 error protocol");
  ASSERT_TRUE(client.feed(frame(kHeaders, kEndHeaders | kEndStream, 3, field(":status", "200"))));
  EXPECT_EQ(client.events.lines.back(), "3 response 200 end");
}

TEST(H2, DrainLetsStreamsFinishAndThenCloses) {
  CodecPair pair(Version::kHttp2);
  const auto id = pair.client->send_request(make_request("GET", "/"), true);
  ASSERT_TRUE(id);
  ASSERT_TRUE(pair.run());
  pair.server->start_drain();
  ASSERT_TRUE(pair.run());
  EXPECT_EQ(pair.client_events.goaways, 1);
  EXPECT_FALSE(pair.client->can_open());
  EXPECT_FALSE(pair.server->close_after_flush());
  pair.server->send_response(*id, make_response(204), true);
  ASSERT_TRUE(pair.run());
  EXPECT_EQ(pair.client_events.joined(), "1 response 204 end\n");
  EXPECT_TRUE(pair.server->close_after_flush());
  EXPECT_TRUE(pair.client->close_after_flush());
}

TEST(H2, AStreamThatCrossesTheFirstGoawayIsServed) {
  CodecPair pair(Version::kHttp2);
  ASSERT_TRUE(pair.run());
  pair.server->announce_end();
  // Sent before the client hears of it.
  const auto id = pair.client->send_request(make_request("GET", "/"), true);
  ASSERT_TRUE(id);
  ASSERT_TRUE(pair.run());
  EXPECT_EQ(pair.server_events.lines.size(), 1U);
  EXPECT_FALSE(pair.client->can_open());
  EXPECT_FALSE(pair.server->close_after_flush());
  pair.server->send_response(*id, make_response(204), true);
  ASSERT_TRUE(pair.run());
  EXPECT_EQ(pair.client_events.joined(), "1 response 204 end\n");
  EXPECT_TRUE(pair.server->close_after_flush());
}

TEST(H2, ADrainEndsAnIdleConnectionWhosePeerDoesNotAnswerThePing) {
  CodecPair pair(Version::kHttp2);
  ASSERT_TRUE(pair.run());
  pair.server->announce_end();
  EXPECT_NE(take_output(*pair.server), "");  // lost on the way
  EXPECT_FALSE(pair.server->close_after_flush());
  pair.server->start_drain();
  ASSERT_TRUE(pair.run());
  EXPECT_EQ(pair.client_events.goaways, 1);
  EXPECT_TRUE(pair.server->close_after_flush());
}

TEST(H2, OneFlushCarriesManyFramesAndIsBounded) {
  CodecPair pair(Version::kHttp2);
  pair.server_events.request_hook = [&](StreamId id, const RequestHead&, bool) {
    pair.server->send_response(id, make_response(200), false);
    pair.server->send_data(id, as_bytes(std::string(20'000, 'x')), true);
  };
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(pair.client->send_request(make_request("GET", "/"), true));
  }
  const std::string requests = take_output(*pair.client);
  ASSERT_TRUE(pair.server->receive(as_bytes(requests)));
  const size_t first = pair.server->pending_output().size();
  EXPECT_GT(first, 60'000U);
  EXPECT_LE(first, H2Codec::output_bytes_max + 17 * 1024);
}

}  // namespace
}  // namespace remora::http
