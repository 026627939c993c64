// Client to server and back through both codecs: what is sent is what arrives, however the bytes
// are cut up.
#include <gtest/gtest.h>

#include "tests/unit/http/codec_pair.h"

namespace remora::http {
namespace {

std::string pattern(size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + i * 7 % 26);
  return text;
}

class RoundTrip : public testing::TestWithParam<Version> {};

// One run of a scenario that uses most of what a message can hold.
struct Outcome {
  std::string client;
  std::string server;
};

Outcome run_scenario(Version version, uint32_t seed) {
  CodecPair pair(version, seed);
  pair.server_events.data_hook = [&](StreamId id, std::span<const uint8_t> bytes) {
    pair.server->consume(id, bytes.size());
  };
  pair.client_events.data_hook = [&](StreamId id, std::span<const uint8_t> bytes) {
    pair.client->consume(id, bytes.size());
  };
  pair.server_events.request_hook = [&](StreamId id, const RequestHead& head, bool end) {
    if (head.path == "/get") {
      EXPECT_TRUE(end);
      pair.server->send_informational(id, make_response(103));
      ResponseHead response = make_response(200);
      response.content_length = 5;
      response.headers.add("X-Answer", "yes");
      pair.server->send_response(id, response, false);
      pair.server->send_data(id, as_bytes("hello"), true);
    } else if (head.path == "/head") {
      ResponseHead response = make_response(200);
      response.content_length = 12345;
      pair.server->send_response(id, response, true);
    }
  };
  pair.server_events.end_hook = [&](StreamId id) {
    pair.server->send_response(id, make_response(201), false);
    pair.server->send_data(id, as_bytes(pattern(100'000)), false);
    pair.server->send_data(id, as_bytes("tail"), false);
    HeaderMap trailers;
    trailers.add("grpc-status", "5");
    trailers.add("grpc-message", "not here");
    pair.server->send_trailers(id, trailers);
  };

  RequestHead get = make_request("GET", "/get");
  get.headers.add("Accept", "*/*");
  get.headers.add("x-empty", "");
  get.headers.add("TE", "trailers");
  EXPECT_TRUE(pair.client->send_request(get, true));
  EXPECT_TRUE(pair.run());
  EXPECT_TRUE(pair.client->send_request(make_request("HEAD", "/head"), true));
  EXPECT_TRUE(pair.run());
  const auto upload = pair.client->send_request(make_request("POST", "/upload?q=1"), false);
  EXPECT_TRUE(upload);
  pair.client->send_data(*upload, as_bytes(pattern(70'000)), false);
  EXPECT_TRUE(pair.run());
  pair.client->send_data(*upload, as_bytes("end"), false);
  HeaderMap trailers;
  trailers.add("x-checksum", "42");
  pair.client->send_trailers(*upload, trailers);
  EXPECT_TRUE(pair.run());

  RequestHead sized = make_request("PUT", "/sized");
  sized.content_length = 3;
  const auto put = pair.client->send_request(sized, false);
  EXPECT_TRUE(put);
  pair.client->send_data(*put, as_bytes("abc"), true);
  EXPECT_TRUE(pair.run());

  EXPECT_FALSE(pair.client_error) << pair.client_error->message;
  EXPECT_FALSE(pair.server_error) << pair.server_error->message;
  EXPECT_TRUE(pair.client->idle());
  EXPECT_TRUE(pair.server->idle());
  EXPECT_TRUE(pair.client->can_open());
  EXPECT_FALSE(pair.client->close_after_flush());
  EXPECT_FALSE(pair.server->close_after_flush());
  return {pair.client_events.joined(), pair.server_events.joined()};
}

TEST_P(RoundTrip, MessagesArriveAsTheyWereSent) {
  const Outcome outcome = run_scenario(GetParam(), 0);
  const bool h2 = GetParam() == Version::kHttp2;
  const auto id = [&](int nth) { return std::to_string(h2 ? 2 * nth - 1 : nth); };
  const std::string accept = h2 ? "accept" : "Accept";
  const std::string te = h2 ? " [te: trailers]" : "";
  const std::string te_last = h2 ? "" : " [TE: trailers]";
  EXPECT_NE(outcome.server.find(id(1) + " request GET http://agent.test:8080 /get [" + accept +
                                ": */*] [x-empty: ]" + te + te_last + " end\n"),
            std::string::npos)
      << outcome.server;
  EXPECT_NE(outcome.server.find(id(2) + " request HEAD http://agent.test:8080 /head end\n"),
            std::string::npos)
      << outcome.server;
  const std::string upload = pattern(70'000) + "end";
  EXPECT_NE(
      outcome.server.find(id(3) + " request POST http://agent.test:8080 /upload?q=1\n" + id(3) +
                          " data 70003 bytes #" + std::to_string(std::hash<std::string>{}(upload)) +
                          "\n" + id(3) + " trailers [x-checksum: 42]\n" + id(3) + " end\n"),
      std::string::npos)
      << outcome.server;
  EXPECT_NE(outcome.server.find(id(4) + " request PUT http://agent.test:8080 /sized length=3\n" +
                                id(4) + " data abc\n" + id(4) + " end\n"),
            std::string::npos)
      << outcome.server;

  const std::string answer = h2 ? "x-answer" : "X-Answer";
  EXPECT_NE(
      outcome.client.find(id(1) + " informational 103\n" + id(1) + " response 200 length=5 [" +
                          answer + ": yes]\n" + id(1) + " data hello\n" + id(1) + " end\n" + id(2) +
                          " response 200 length=12345 end\n"),
      std::string::npos)
      << outcome.client;
  const std::string download = pattern(100'000) + "tail";
  EXPECT_NE(outcome.client.find(id(3) + " response 201\n" + id(3) + " data 100004 bytes #" +
                                std::to_string(std::hash<std::string>{}(download)) + "\n" + id(3) +
                                " trailers [grpc-status: 5] [grpc-message: not here]\n" + id(3) +
                                " end\n"),
            std::string::npos)
      << outcome.client;
}

TEST_P(RoundTrip, TheRecordIsTheSameForEverySplit) {
  const Outcome whole = run_scenario(GetParam(), 0);
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    const Outcome cut = run_scenario(GetParam(), seed);
    ASSERT_EQ(cut.client, whole.client) << "seed " << seed;
    ASSERT_EQ(cut.server, whole.server) << "seed " << seed;
  }
}

TEST_P(RoundTrip, AnUnreadBodyStopsAtTheWindowAndGoesOnWhenItIsConsumed) {
  constexpr uint32_t kSeed = 7;
  constexpr size_t kPieceBytesMax = 20'000;
  CodecPair pair(GetParam(), kSeed);
  const std::string body = pattern(3 * kReceiveWindowBytes);
  size_t received = 0;
  pair.server_events.data_hook = [&](StreamId, std::span<const uint8_t> bytes) {
    received += bytes.size();
  };
  const auto id = pair.client->send_request(make_request("POST", "/"), false);
  ASSERT_TRUE(id);
  pair.client->send_data(*id, as_bytes(body), true);
  EXPECT_GT(pair.client->buffered(*id), 0U);
  // As a transport would: nothing is read while the codec does not want it.
  while (pair.server->wants_read() && pair.step()) {
  }
  EXPECT_GE(received, kReceiveWindowBytes);
  EXPECT_LT(received, kReceiveWindowBytes + kPieceBytesMax);

  size_t consumed = 0;
  for (int i = 0; i < 100'000 && received < body.size(); ++i) {
    pair.server->consume(*id, received - consumed);
    consumed = received;
    pair.step();
  }
  EXPECT_TRUE(pair.run());
  EXPECT_EQ(pair.server_events.lines.back(), std::to_string(*id) + " end");
  EXPECT_EQ(received, body.size());
  EXPECT_EQ(pair.client_events.drained[*id], 1);
}

INSTANTIATE_TEST_SUITE_P(Versions, RoundTrip, testing::Values(Version::kHttp11, Version::kHttp2),
                         [](const auto& test) {
                           return test.param == Version::kHttp2 ? "h2" : "h1";
                         });

}  // namespace
}  // namespace remora::http
