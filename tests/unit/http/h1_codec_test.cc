#include "sidecar/http/h1_codec.h"

#include <gtest/gtest.h>

#include "tests/unit/http/codec_pair.h"

namespace remora::http {
namespace {

// A server codec and what it has been told.
struct Server {
  explicit Server(const CodecLimits& given = {}) : limits(given) {
    codec = make_h1_codec(Role::kServer, events, limits);
  }
  Result<void> feed(std::string_view bytes) { return codec->receive(as_bytes(bytes)); }
  std::string output() { return take_output(*codec); }

  CodecLimits limits;
  RecordingEvents events;
  std::unique_ptr<Codec> codec;
};

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

constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

TEST(H1Server, ReadsARequestInOriginForm) {
  Server server;
  ASSERT_TRUE(server.feed("GET /a?b=c HTTP/1.1\r\nHost: x:80\r\nAccept: \t*/* \r\n\r\n"));
  EXPECT_EQ(server.events.joined(), "1 request GET http://x:80 /a?b=c [Accept: */*] end\n");
}

TEST(H1Server, ReadsAbsoluteFormAsAuthorityAndPath) {
  const auto read = [](std::string_view target) {
    Server server;
    EXPECT_TRUE(server.feed(std::string("GET ") + std::string(target) +
                            " HTTP/1.1\r\nHost: other\r\n\r\n"));
    return server.events.joined();
  };
  EXPECT_EQ(read("http://x:8/a?b"), "1 request GET http://x:8 /a?b end\n");
  EXPECT_EQ(read("HTTPS://x"), "1 request GET https://x / end\n");
  EXPECT_EQ(read("http://[::1]?q"), "1 request GET http://[::1] /?q end\n");
}

TEST(H1Server, ReadsMethodsThatNobodyRegistered) {
  Server server;
  ASSERT_TRUE(server.feed("X-PURGE /a HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_EQ(server.events.joined(), "1 request X-PURGE http://x /a end\n");
}

TEST(H1Server, TakesConnectionLevelFieldsOut) {
  Server server;
  ASSERT_TRUE(server.feed(
      "GET / HTTP/1.1\r\nHost: x\r\nConnection: X-Private, close, Host\r\nX-Private: 1\r\n"
      "Keep-Alive: 5\r\nProxy-Connection: x\r\nTE: gzip;q=1, trailers\r\nHTTP2-Settings: a\r\n"
      "Upgrade: websocket\r\nA: b\r\n\r\n"));
  EXPECT_EQ(server.events.joined(), "1 request GET http://x / [A: b] [TE: trailers] end\n");
}

TEST(H1Server, SkipsAnEmptyLineBeforeARequest) {
  Server server;
  ASSERT_TRUE(server.feed("\r\n"));
  ASSERT_TRUE(server.feed(kGet));
  EXPECT_EQ(server.events.joined(), "1 request GET http://x / end\n");
}

TEST(H1Server, ParsesAPipelinedRequestOnlyAfterTheResponse) {
  Server server;
  ASSERT_TRUE(server.feed(std::string(kGet) +
                          "POST /2 HTTP/1.1\r\nHost: x\r\n"
                          "Content-Length: 3\r\n\r\nabc" +
                          std::string(kGet)));
  EXPECT_EQ(server.events.lines.size(), 1U);
  EXPECT_FALSE(server.codec->has_unparsed());
  server.codec->send_response(1, make_response(204), true);
  EXPECT_TRUE(server.codec->has_unparsed());
  ASSERT_TRUE(server.codec->receive({}));
  EXPECT_EQ(server.events.joined(),
            "1 request GET http://x / end\n2 request POST http://x /2 length=3\n2 data abc\n2 "
            "end\n");
  server.codec->send_response(2, make_response(204), true);
  ASSERT_TRUE(server.codec->receive({}));
  EXPECT_EQ(server.events.lines.back(), "3 request GET http://x / end");
}

TEST(H1Server, KeepsABoundedAmountOfPipelinedInput) {
  Server server;
  ASSERT_TRUE(server.feed(kGet));
  const std::string piece(16 * 1024, 'x');
  size_t fed = 0;
  while (server.codec->wants_read()) {
    ASSERT_TRUE(server.feed(piece));
    fed += piece.size();
  }
  EXPECT_LE(fed, H1Codec::pipelined_bytes_max + piece.size());
  // A transport that reads on all the same is stopped.
  Result<void> result;
  for (int i = 0; i < 100 && result; ++i) result = server.feed(piece);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kLimitExceeded);
}

TEST(H1Server, APeerThatReadsNoResponsesGetsNoFurtherOnes) {
  Server server;
  const std::string body(100'000, 'b');
  server.events.request_hook = [&](StreamId id, const RequestHead&, bool) {
    server.codec->send_response(id, make_response(200), false);
    server.codec->send_data(id, as_bytes(body), true);
  };
  std::string many;
  for (int i = 0; i < 100; ++i) many += kGet;
  ASSERT_TRUE(server.feed(many));
  EXPECT_EQ(server.events.lines.size(), 3U);
  EXPECT_FALSE(server.codec->has_unparsed());
  size_t answered = 0;
  while (!server.output().empty() || server.codec->has_unparsed()) {
    answered = server.events.lines.size();
    ASSERT_TRUE(server.codec->receive({}));
  }
  EXPECT_EQ(answered, 100U);
}

TEST(H1Server, AReplyBeforeTheEndOfTheBodyClosesAndTheBodyIsNeverParsed) {
  Server server;
  server.events.request_hook = [&](StreamId id, const RequestHead&, bool) {
    server.codec->send_response(id, make_response(413), true);
  };
  ASSERT_TRUE(server.feed("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n"));
  for (int i = 0; i < 10'000; ++i) ASSERT_TRUE(server.feed("GET / HTTP/1.1\r\n\r\n!!"));
  EXPECT_EQ(server.events.lines.size(), 1U);
  EXPECT_EQ(server.output(),
            "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(server.codec->close_after_flush());
}

TEST(H1Server, ExpectIsAnOrdinaryFieldAndAFinalResponseNeedsNoBody) {
  Server server;
  ASSERT_TRUE(server.feed(
      "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n"));
  EXPECT_EQ(server.events.joined(), "1 request POST http://x / length=10 [Expect: 100-continue]\n");
  server.codec->send_informational(1, make_response(100));
  EXPECT_EQ(server.output(), "HTTP/1.1 100 Continue\r\n\r\n");
  server.codec->send_response(1, make_response(401), true);
  EXPECT_EQ(server.output(),
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

TEST(H1Server, AnswersHttp10WithoutChunksAndWithoutInterimResponses) {
  Server server;
  ASSERT_TRUE(server.feed("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
  server.codec->send_informational(1, make_response(103));
  server.codec->send_response(1, make_response(200), false);
  server.codec->send_data(1, as_bytes("body"), true);
  EXPECT_EQ(server.output(), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbody");
  EXPECT_TRUE(server.codec->close_after_flush());
}

TEST(H1Server, KeepsAnHttp10ConnectionThatAsksForIt) {
  Server server;
  ASSERT_TRUE(server.feed("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
  ResponseHead head = make_response(200);
  head.content_length = 2;
  server.codec->send_response(1, head, false);
  server.codec->send_data(1, as_bytes("ok"), true);
  EXPECT_EQ(server.output(),
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok");
  EXPECT_FALSE(server.codec->close_after_flush());
  ASSERT_TRUE(server.feed("GET / HTTP/1.0\r\n\r\n"));
  server.codec->send_response(2, make_response(204), true);
  EXPECT_EQ(server.output(), "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
}

TEST(H1Server, HeadAnd304AndHeadersOnlyCarryNoBody) {
  Server server;
  ASSERT_TRUE(server.feed("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"));
  ResponseHead head = make_response(200);
  head.content_length = 10;
  server.codec->send_response(1, head, false);
  server.codec->send_data(1, as_bytes("0123456789"), true);
  EXPECT_EQ(server.output(), "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
  ASSERT_TRUE(server.feed(kGet));
  server.codec->send_response(2, make_response(304), true);
  EXPECT_EQ(server.output(), "HTTP/1.1 304 Not Modified\r\n\r\n");
  EXPECT_FALSE(server.codec->close_after_flush());
}

TEST(H1Server, ABodyShorterThanAnnouncedEndsTheConnection) {
  Server server;
  ASSERT_TRUE(server.feed(kGet));
  ResponseHead head = make_response(200);
  head.content_length = 10;
  server.codec->send_response(1, head, false);
  server.codec->send_data(1, as_bytes("short"), true);
  EXPECT_TRUE(server.codec->close_after_flush());
}

TEST(H1Server, ABodyLongerThanAnnouncedIsCut) {
  Server server;
  ASSERT_TRUE(server.feed(kGet));
  ResponseHead head = make_response(200);
  head.content_length = 2;
  server.codec->send_response(1, head, false);
  server.codec->send_data(1, as_bytes("okHTTP/1.1 200 OK"), true);
  EXPECT_EQ(server.output(), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
}

TEST(H1Server, DrainClosesWithTheNextResponseOrAtOnceWhenIdle) {
  Server busy;
  ASSERT_TRUE(busy.feed(kGet));
  busy.codec->start_drain();
  EXPECT_FALSE(busy.codec->close_after_flush());
  busy.codec->send_response(1, make_response(204), true);
  EXPECT_EQ(busy.output(), "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(busy.codec->close_after_flush());

  Server idle;
  idle.codec->start_drain();
  EXPECT_TRUE(idle.codec->close_after_flush());
}

TEST(H1Server, AnAnnouncedEndIsSaidWithTheNextResponseAndLeavesAnIdleConnectionOpen) {
  Server server;
  server.codec->announce_end();
  EXPECT_FALSE(server.codec->close_after_flush());
  ASSERT_TRUE(server.feed(kGet));
  server.codec->send_response(1, make_response(204), true);
  EXPECT_EQ(server.output(), "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(server.codec->close_after_flush());
}

TEST(H1Server, AHalfClosedCallerStillGetsItsResponse) {
  Server server;
  ASSERT_TRUE(server.feed(kGet));
  server.codec->receive_eof();
  EXPECT_EQ(server.events.lines.size(), 1U);
  EXPECT_FALSE(server.codec->close_after_flush());
  server.codec->send_response(1, make_response(204), true);
  EXPECT_NE(server.output().find("204"), std::string::npos);
  EXPECT_TRUE(server.codec->close_after_flush());
}

TEST(H1Server, EofInsideABodyIsAPeerReset) {
  Server server;
  ASSERT_TRUE(server.feed("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"));
  server.codec->receive_eof();
  EXPECT_EQ(server.events.lines.back(), "1 error peer-reset");
  EXPECT_TRUE(server.codec->idle());
}

TEST(H1Server, AnswersAHeadThatItCouldNotRead) {
  Server server;
  ASSERT_FALSE(server.feed("GET /\r\n\r\n"));
  server.codec->send_response(kErrorStream, make_response(400), false);
  server.codec->send_data(kErrorStream, as_bytes("no"), true);
  EXPECT_EQ(server.output(),
            "HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\nConnection: "
            "close\r\n\r\n2\r\nno\r\n0\r\n\r\n");
  EXPECT_TRUE(server.codec->close_after_flush());
}

TEST(H1Server, ABadChunkMayBeAnsweredUnlessAResponseHasBegun) {
  Server server;
  ASSERT_TRUE(server.feed("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
  ASSERT_FALSE(server.feed("zz\r\n"));
  server.codec->send_response(1, make_response(400), true);
  EXPECT_EQ(server.output(),
            "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

TEST(H1Server, ALateHeadIsAnsweredWithoutAnError) {
  Server server;
  ASSERT_TRUE(server.feed("GET / HT"));
  server.codec->send_response(kErrorStream, make_response(408), true);
  EXPECT_EQ(server.output(),
            "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(server.codec->close_after_flush());
}

TEST(H1Server, Upgrades) {
  Server server;
  ASSERT_TRUE(server.feed(
      "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
      "Sec-WebSocket-Key: k\r\n\r\nearly"));
  EXPECT_EQ(server.events.joined(),
            "1 request GET http://x /ws upgrade=websocket [Sec-WebSocket-Key: k] end\n");
  ResponseHead head = make_response(101);
  head.upgrade = "websocket";
  server.codec->send_response(1, head, false);
  EXPECT_EQ(server.output(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: "
            "Upgrade\r\n\r\n");
  ASSERT_TRUE(server.codec->has_unparsed());
  ASSERT_TRUE(server.codec->receive({}));
  ASSERT_TRUE(server.feed("\x81more"));
  EXPECT_EQ(server.events.body[1], "early\x81more");
  server.codec->send_data(1, as_bytes("raw"), false);
  EXPECT_EQ(server.output(), "raw");
  server.codec->receive_eof();
  EXPECT_EQ(server.events.lines.back(), "1 end");
  EXPECT_FALSE(server.codec->close_after_flush());
  server.codec->send_data(1, as_bytes("bye"), true);
  EXPECT_TRUE(server.codec->shutdown_write_after_flush());
  EXPECT_EQ(server.output(), "bye");
  EXPECT_TRUE(server.codec->close_after_flush());
}

TEST(H1Server, ConnectBecomesATunnel) {
  Server server;
  ASSERT_TRUE(server.feed("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"));
  EXPECT_EQ(server.events.joined(), "1 request CONNECT http://a.test:443  end\n");
  server.codec->send_response(1, make_response(200), false);
  EXPECT_EQ(server.output(), "HTTP/1.1 200 OK\r\n\r\n");
  ASSERT_TRUE(server.feed("tls"));
  EXPECT_EQ(server.events.body[1], "tls");
}

TEST(H1Limits, AnEndlessHeaderBlockIsRefusedWithBoundedMemory) {
  Server server;
  ASSERT_TRUE(server.feed("GET / HTTP/1.1\r\nHost: x\r\nCookie: "));
  const std::string piece(1000, 'c');
  Result<void> result;
  size_t fed = 0;
  while (result && fed < 10'000'000) {
    result = server.feed(piece);
    fed += piece.size();
  }
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kLimitExceeded);
  EXPECT_FALSE(result.error().message.starts_with("url"));
  EXPECT_LE(fed, server.limits.header_bytes_max + piece.size());
}

TEST(H1Limits, AnEndlessUrlIsNamedAsSuch) {
  Server server;
  ASSERT_TRUE(server.feed("GET /"));
  const std::string piece(1000, 'u');
  Result<void> result;
  size_t fed = 0;
  while (result && fed < 10'000'000) {
    result = server.feed(piece);
    fed += piece.size();
  }
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kLimitExceeded);
  EXPECT_TRUE(result.error().message.starts_with("url"));
  EXPECT_LE(fed, server.limits.url_bytes_max + 2 * piece.size());
}

TEST(H1Limits, AUrlAtTheLimitPassesAndOneBytePastItDoesNot) {
  CodecLimits limits;
  limits.url_bytes_max = 100;
  const auto request = [](size_t n) {
    return "GET /" + std::string(n - 1, 'u') + " HTTP/1.1\r\nHost: x\r\n\r\n";
  };
  EXPECT_TRUE(Server(limits).feed(request(100)));
  const auto refused = Server(limits).feed(request(101));
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().message.starts_with("url"));
}

TEST(H1Limits, CountsHeaderFields) {
  CodecLimits limits;
  limits.header_count_max = 3;
  EXPECT_TRUE(Server(limits).feed("GET / HTTP/1.1\r\nHost: x\r\na: 1\r\nb: 2\r\n\r\n"));
  const auto refused =
      Server(limits).feed("GET / HTTP/1.1\r\nHost: x\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kLimitExceeded);
}

TEST(H1Limits, EndlessChunkExtensionsAreRefused) {
  Server server;
  ASSERT_TRUE(server.feed("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5"));
  ASSERT_TRUE(server.feed(";name=value"));
  Result<void> result;
  size_t fed = 0;
  const std::string piece(1000, 'e');
  while (result && fed < 10'000'000) {
    result = server.feed(piece);
    fed += piece.size();
  }
  ASSERT_FALSE(result);
  EXPECT_LE(fed, ChunkedReader::overhead_bytes_max + 2 * piece.size());
}

TEST(H1Limits, SmallChunksAndShortExtensionsPass) {
  Server server;
  ASSERT_TRUE(server.feed("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
  for (int i = 0; i < 100'000; ++i) ASSERT_TRUE(server.feed("1\r\nx\r\n"));
  ASSERT_TRUE(server.feed("1;a=\"b\"\r\nx\r\n0;last\r\n\r\n"));
  EXPECT_EQ(server.events.lines.back(), "1 end");
}

TEST(H1SerializerDeathTest, AFieldThatWouldBreakOutOfItsLineAborts) {
  Client client;
  RequestHead head = make_request("GET", "/");
  head.headers.add("A", "b\r\nEvil: 1");
  EXPECT_DEATH((void)client.codec->send_request(head, true), "http1_unwritable_message");
}

}  // namespace
}  // namespace remora::http
