// The small HTTP server over real sockets: bodies and their limits, TLS, and a graceful end.
#include "sidecar/serve/http_server.h"

#include <ctime>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sidecar/net/certificates.h"
#include "sidecar/net/tcp.h"
#include "tests/unit/net/recording_transport_events.h"

namespace remora {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using namespace std::chrono_literals;

class HttpServerTest : public testing::Test {
 protected:
  struct Client {
    RecordingTransportEvents events;
    std::unique_ptr<Transport> transport;
  };

  void start(HttpServerOptions options = {.keep_body = true}) {
    auto started = HttpServer::start(loop(), *parse_socket_address("127.0.0.1:0"), options,
                                     [this](const ServerRequest& request, ServerRespond respond) {
                                       requests_.push_back(request);
                                       if (request.path == "/later") {
                                         later_ = std::move(respond);
                                       } else {
                                         respond({.body = "answer"});
                                       }
                                     });
    ASSERT_TRUE(started.has_value()) << started.error().message;
    server_ = std::move(*started);
  }
  Client& connect() {
    clients_.push_back(std::make_unique<Client>());
    Client& client = *clients_.back();
    client.transport = connect_socket(loop(), server_->address(), {});
    client.transport->start(client.events);
    EXPECT_TRUE(runner_.run_until([&] { return client.events.connected == 1; }));
    return client;
  }
  void send(Client& client, const std::string& bytes) {
    ASSERT_EQ(client.transport->write(as_bytes(bytes)).value(), bytes.size());
  }
  static std::string post(const std::string& path, const std::string& body) {
    return "POST " + path +
           " HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
           body;
  }
  // What has come once the text is in it.
  std::string answer_with(Client& client, const std::string& text) {
    EXPECT_TRUE(runner_.run_until([&] {
      return client.events.read.find(text) != std::string::npos;
    })) << client.events.read;
    return std::exchange(client.events.read, {});
  }
  EventLoop& loop() { return runner_.loop(); }

  LoopRunner runner_;
  std::vector<ServerRequest> requests_;
  ServerRespond later_;
  std::unique_ptr<HttpServer> server_;
  std::vector<std::unique_ptr<Client>> clients_;
};

TEST_F(HttpServerTest, OneSourceHasItsShareAndNoMore) {
  start({.connections_max = 16, .connections_per_source_max = 2});
  connect();
  Client& second = connect();
  Client& third = connect();
  EXPECT_TRUE(runner_.run_until([&] { return third.events.eofs > 0 || third.events.error; }))
      << "closed at once";
  send(second, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(runner_.run_until([&] { return second.events.eofs > 0; }));
  EXPECT_TRUE(runner_.run_until([&] { return server_->connections() == 1; }));
  Client& fourth = connect();
  send(fourth, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(runner_.run_until([&] { return fourth.events.read.ends_with("answer"); }));
}

TEST_F(HttpServerTest, GivesTheHandlerTheWholeRequest) {
  start();
  Client& client = connect();
  send(client, post("/a?b=c", "the body"));
  EXPECT_THAT(answer_with(client, "answer"), StartsWith("HTTP/1.1 200 "));
  ASSERT_EQ(requests_.size(), 1u);
  EXPECT_EQ(requests_[0].method, "POST");
  EXPECT_EQ(requests_[0].path, "/a?b=c");
  EXPECT_EQ(requests_[0].host, "x");
  EXPECT_EQ(requests_[0].body, "the body");
}

TEST_F(HttpServerTest, ABodyIsKeptOnlyIfItIsWanted) {
  start({.keep_body = false});
  Client& client = connect();
  send(client, post("/", "the body"));
  answer_with(client, "answer");
  EXPECT_EQ(requests_[0].body, "");
}

TEST_F(HttpServerTest, ALargeBodyIsRefused) {
  start({.request_body_bytes_max = 10, .keep_body = true});
  Client& client = connect();
  send(client, post("/", std::string(11, 'x')));
  EXPECT_THAT(answer_with(client, "too large"), StartsWith("HTTP/1.1 413 "));
  EXPECT_TRUE(requests_.empty());
}

TEST_F(HttpServerTest, BodiesTogetherHaveALimitThatIsGivenBack) {
  start({.request_body_bytes_max = 100, .keep_body = true, .bodies_bytes_max = 150});
  const std::string whole = post("/", std::string(100, 'x'));
  Client& slow = connect();
  send(slow, whole.substr(0, whole.size() - 1));
  runner_.run_for(10ms);
  Client& other = connect();
  send(other, whole);
  EXPECT_THAT(answer_with(other, "try again"), StartsWith("HTTP/1.1 503 "));
  send(slow, "x");
  EXPECT_THAT(answer_with(slow, "answer"), StartsWith("HTTP/1.1 200 "));
  // Also by one that gives up in the middle.
  Client& leaving = connect();
  send(leaving, whole.substr(0, whole.size() - 1));
  runner_.run_for(10ms);
  leaving.transport.reset();
  other.transport.reset();
  ASSERT_TRUE(runner_.run_until([&] { return server_->connections() == 1; }));
  for (int i = 0; i < 5; ++i) {
    send(slow, whole);
    EXPECT_THAT(answer_with(slow, "answer"), StartsWith("HTTP/1.1 200 "));
  }
}

TEST_F(HttpServerTest, ARetiredServerAnswersAndSaysGoodbye) {
  start();
  Client& before = connect();
  send(before, post("/", ""));
  EXPECT_THAT(answer_with(before, "answer"), Not(HasSubstr("onnection: close")));
  server_->retire();
  send(before, post("/", ""));
  EXPECT_THAT(answer_with(before, "answer"), HasSubstr("onnection: close"));
  Client& after = connect();
  send(after, post("/", ""));
  EXPECT_THAT(answer_with(after, "answer"), HasSubstr("onnection: close"));
  ASSERT_TRUE(runner_.run_until([&] { return before.events.eofs + after.events.eofs == 2; }));
}

TEST_F(HttpServerTest, AConnectionIsKeptForItsNextRequestAsLongAsWasSaid) {
  start({.keep_alive_ms_max = 50});
  Client& client = connect();
  for (int i = 0; i < 3; ++i) {
    send(client, post("/", ""));
    answer_with(client, "answer");
    runner_.run_for(20ms);
  }
  EXPECT_EQ(client.events.eofs, 0);
  ASSERT_TRUE(runner_.run_until([&] { return client.events.eofs == 1; }));
  // A request that has begun has the time of a request.
  Client& slow = connect();
  send(slow, post("/", ""));
  answer_with(slow, "answer");
  send(slow, "GET / HT");
  runner_.run_for(100ms);
  EXPECT_EQ(slow.events.eofs, 0);
  send(slow, "TP/1.1\r\nHost: x\r\n\r\n");
  answer_with(slow, "answer");
}

TEST_F(HttpServerTest, ADrainWaitsForAnswersAndNotForTheIdle) {
  start();
  Client& idle = connect();
  Client& busy = connect();
  send(busy, post("/later", ""));
  ASSERT_TRUE(runner_.run_until([&] { return later_ != nullptr; }));
  bool drained = false;
  server_->drain([&] { drained = true; });
  EXPECT_FALSE(drained) << "called from inside";
  ASSERT_TRUE(runner_.run_until([&] { return idle.events.eofs == 1; }));
  idle.transport->shutdown_write();
  runner_.run_for(10ms);
  EXPECT_FALSE(drained);
  std::exchange(later_, nullptr)({.body = "answer"});
  answer_with(busy, "answer");
  busy.transport->shutdown_write();
  ASSERT_TRUE(runner_.run_until([&] { return drained; }));
  EXPECT_EQ(server_->connections(), 0u);
  RecordingTransportEvents refused;
  const auto late = connect_socket(loop(), server_->address(), {});
  late->start(refused);
  ASSERT_TRUE(runner_.run_until([&] { return refused.error.has_value(); }));
}

TEST_F(HttpServerTest, ADrainOfNobodyEndsAtOnce) {
  start();
  bool drained = false;
  server_->drain([&] { drained = true; });
  ASSERT_TRUE(runner_.run_until([&] { return drained; }));
}

TEST_F(HttpServerTest, EachTlsConnectionGetsTheCertificateOfItsTime) {
  const int64_t now = std::time(nullptr);
  const Validity validity{now - 100, now + 1000};
  const CertifiedKey authority = *make_authority("a", validity);
  std::shared_ptr<const TlsContext> served;
  const auto serve = [&](const std::string& name) {
    const std::vector<std::string> names = {name};
    const CertifiedKey issued = *issue_server_certificate(authority, names, validity);
    served = *make_tls_server_context({issued.certificate_pem, issued.private_key_pem});
  };
  HttpServerOptions options;
  options.tls = [&] { return served; };
  serve("first.example");
  start(options);
  const auto trusting = *make_tls_client_context(authority.certificate_pem);
  const auto connect_as = [&](const std::string& name) {
    auto client = std::make_unique<Client>();
    client->transport =
        wrap_tls_client(loop(), trusting, connect_socket(loop(), server_->address(), {}), name);
    client->transport->start(client->events);
    EXPECT_TRUE(runner_.run_until(
        [&] { return client->events.connected == 1 || client->events.error.has_value(); }));
    return client;
  };
  const auto first = connect_as("first.example");
  serve("second.example");
  const auto second = connect_as("second.example");
  EXPECT_TRUE(connect_as("first.example")->events.error.has_value());
  for (const auto& client : {first.get(), second.get()}) {
    send(*client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_THAT(answer_with(*client, "answer"), StartsWith("HTTP/1.1 200 "));
  }
}

}  // namespace
}  // namespace remora
