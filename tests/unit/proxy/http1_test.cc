// HTTP/1.1 through the proxy: what callers and agents see on the wire.
#include "tests/unit/proxy/proxy_fixture.h"

namespace remora::test {
namespace {

class Http1 : public ProxyTest {};

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST_F(Http1, RelaysARequestAndKeepsBothConnections) {
  start();
  Peer client = caller();
  client.send("GET /a?b=c HTTP/1.1\r\nHost: agent.test\r\nX-Mine: 1\r\n\r\n");
  Peer server = agent.accept();
  const std::string request = server.read_head();
  EXPECT_TRUE(request.starts_with("GET /a?b=c HTTP/1.1\r\nHost: agent.test\r\n")) << request;
  EXPECT_TRUE(contains(request, "X-Mine: 1\r\n")) << request;
  server.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
  EXPECT_TRUE(client.read_head().starts_with("HTTP/1.1 200 OK\r\n"));
  EXPECT_EQ(client.read_bytes(5), "hello");

  client.send("GET /second HTTP/1.1\r\nHost: agent.test\r\n\r\n");
  EXPECT_TRUE(server.read_head().starts_with("GET /second "));
  server.send("HTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_TRUE(client.read_head().starts_with("HTTP/1.1 204 "));
}

TEST_F(Http1, RelaysChunkedBodiesBothWaysWithTrailers) {
  start();
  Peer client = caller();
  client.send("POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
  Peer server = agent.accept();
  server.read_head();
  EXPECT_EQ(server.read_until("abc\r\n"), "3\r\nabc\r\n");  // before the request has ended
  client.send("2\r\nde\r\n0\r\n\r\n");
  server.read_until("0\r\n\r\n");
  server.send(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4\r\nwxyz\r\n");
  client.read_head();
  EXPECT_EQ(client.read_until("wxyz\r\n"), "4\r\nwxyz\r\n");  // before the response has ended
  server.send("0\r\nX-Sum: 9\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "0\r\nX-Sum: 9\r\n\r\n");
  client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_TRUE(server.read_head().starts_with("GET /next "));
}

TEST_F(Http1, AnswersPipelinedRequestsInOrder) {
  start();
  Peer client = caller();
  client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer server = agent.accept();
  EXPECT_TRUE(server.read_head().starts_with("GET /1 "));
  EXPECT_TRUE(server.is_silent_for(50));
  server.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
  EXPECT_TRUE(server.read_head().starts_with("GET /2 "));
  server.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2");
  client.read_head();
  EXPECT_EQ(client.read_bytes(1), "1");
  client.read_head();
  EXPECT_EQ(client.read_bytes(1), "2");
}

TEST_F(Http1, PassesTheAgentsEarlyAnswerOnWhileTheBodyIsWithheld) {
  start();
  Peer client = caller();
  client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n");
  Peer server = agent.accept();
  EXPECT_TRUE(contains(server.read_head(), "100-continue"));
  server.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
  EXPECT_TRUE(client.read_head().starts_with("HTTP/1.1 401 "));
}

TEST_F(Http1, RelaysContinueAndThenTheBody) {
  start();
  Peer client = caller();
  client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  server.send("HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_TRUE(client.read_head().starts_with("HTTP/1.1 100 "));
  client.send("body");
  EXPECT_EQ(server.read_bytes(4), "body");
  server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  EXPECT_TRUE(client.read_head().starts_with("HTTP/1.1 200 "));
}

TEST_F(Http1, ShowsTheAgentsEarly413ThoughTheUploadGoesOn) {
  start();
  Peer client = caller();
  client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 29360128\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  server.send("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  client.send_until_full(4 << 20);
  server.close();
  EXPECT_TRUE(client.read_head().starts_with("HTTP/1.1 413 "));
}

TEST_F(Http1, RefusesDoubtfulFramingAndForwardsNothing) {
  start();
  Peer client = caller();
  client.send(
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
      "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
  const std::string reply = client.read_all();
  EXPECT_TRUE(reply.starts_with("HTTP/1.1 400 ")) << reply;
  EXPECT_TRUE(contains(reply, "problems/bad-request")) << reply;
  EXPECT_EQ(reply.find("HTTP/1.1", 8), std::string::npos) << "answered twice: " << reply;
  EXPECT_TRUE(agent.nobody_connects_for(50));
}

TEST_F(Http1, HeaderBlockAboveTheLimitGets431) {
  start();
  Peer client = caller();
  client.send("GET / HTTP/1.1\r\nHost: a\r\nCookie: " + std::string(80 * 1024, 'c'));
  client.send("\r\n\r\n");
  EXPECT_TRUE(client.read_all().starts_with("HTTP/1.1 431 "));
  EXPECT_TRUE(agent.nobody_connects_for(50));
}

TEST_F(Http1, BodyOfARefusedRequestIsNeverParsedAsARequest) {
  filter_options.limits.request_body_bytes_max = 1000;
  start();
  Peer client = caller();
  client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n");
  std::string body;
  while (body.size() < 200'000) body += "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n";
  client.send(body.substr(0, 200'000));
  client.send("GET /after HTTP/1.1\r\nHost: a\r\n\r\n");
  const std::string reply = client.read_all();
  EXPECT_TRUE(reply.starts_with("HTTP/1.1 413 ")) << reply;
  EXPECT_EQ(reply.find("HTTP/1.1", 8), std::string::npos) << "answered twice: " << reply;
  EXPECT_TRUE(agent.nobody_connects_for(50));
}

TEST_F(Http1, ChunkedBodyThatGrowsPastTheLimitGets413) {
  filter_options.limits.request_body_bytes_max = 4;
  start();
  Peer client = caller();
  client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n");
  EXPECT_TRUE(client.read_all().starts_with("HTTP/1.1 413 "));
}

TEST_F(Http1, RequestPastItsDeadlineGets504) {
  start();
  Peer client = caller();
  client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Timeout: 0.05\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  const std::string head = client.read_head();
  EXPECT_TRUE(head.starts_with("HTTP/1.1 504 ")) << head;
  EXPECT_TRUE(contains(client.read_until("}\n"), "problems/deadline-exceeded"));
  EXPECT_EQ(server.read_all(), "") << "the agent's connection ends with the request";
}

TEST_F(Http1, SlowRequestHeadGets408) {
  options.timeouts.headers = std::chrono::milliseconds(100);
  start();
  Peer client = caller();
  client.send("GET / HTTP/1.1\r\nHost:");
  EXPECT_TRUE(client.read_all().starts_with("HTTP/1.1 408 "));
}

TEST_F(Http1, HeadSentDropByDropDoesNotOutliveTheHeadersTimeout) {
  options.timeouts.headers = std::chrono::milliseconds(300);
  start();
  Peer client = caller();
  client.send("GET / HTTP/1.1\r\n");
  std::string reply;
  for (int i = 0; i < 200 && client.is_silent_for(20); ++i) client.send("X");
  EXPECT_TRUE(client.read_all().starts_with("HTTP/1.1 408 "));
}

TEST_F(Http1, BodyThatStopsComingGets408) {
  options.timeouts.headers = std::chrono::milliseconds(100);
  start();
  Peer client = caller();
  client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
  Peer server = agent.accept();
  EXPECT_TRUE(client.read_all().starts_with("HTTP/1.1 408 "));
}

TEST_F(Http1, IdleConnectionIsClosed) {
  options.timeouts.idle = std::chrono::milliseconds(100);
  start();
  Peer client = caller();
  client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  client.read_head();
  EXPECT_EQ(client.read_all(), "");
}

TEST_F(Http1, EventStreamIsRelayedEventByEvent) {
  start();
  Peer client = caller();
  client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  server.send(
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
  client.read_head();
  for (int i = 0; i < 5; ++i) {
    server.send("9\r\ndata: 1\n\n\r\n");
    EXPECT_EQ(client.read_until("\n\n"), "9\r\ndata: 1\n\n");
    client.read_until("\r\n");
  }
  EXPECT_EQ(on_loop([this] { return proxy->oldest_in_agent(); }), Duration::zero())
      << "a quiet stream owes no answer";
}

TEST_F(Http1, WebSocketUpgradeBecomesATunnel) {
  start();
  Peer client = caller();
  client.send(
      "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
      "Sec-WebSocket-Key: x\r\n\r\n");
  Peer server = agent.accept();
  const std::string request = server.read_head();
  EXPECT_TRUE(contains(request, "pgrade: websocket\r\n")) << request;
  server.send(
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly");
  EXPECT_TRUE(client.read_head().starts_with("HTTP/1.1 101 "));
  EXPECT_EQ(client.read_bytes(5), "early");
  client.send("\x81\x05hello");
  EXPECT_EQ(server.read_bytes(7), "\x81\x05hello");
  server.send("GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(client.read_bytes(18), "GET / HTTP/1.1\r\n\r\n");
  server.close();
  EXPECT_EQ(client.read_all(), "");
}

TEST_F(Http1, HalfClosedCallerStillGetsItsAnswer) {
  start();
  Peer client = caller();
  client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  client.shutdown_write();
  Peer server = agent.accept();
  server.read_head();
  EXPECT_TRUE(client.is_silent_for(100));
  server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  EXPECT_TRUE(client.read_all().ends_with("\r\n\r\nok"));
}

TEST_F(Http1, FastAgentAndSlowCallerStayBelowTheWatermarks) {
  start();
  Peer client = caller();
  client.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  server.send("HTTP/1.1 200 OK\r\n\r\n");
  constexpr size_t kLots = 256 << 20;
  const size_t taken = server.send_until_full(kLots);
  // Kernel buffers on two sockets (at most 2 x (4 + 6) MiB here) and our two watermarks.
  EXPECT_LT(taken, 32u << 20);
  client.reset();
  EXPECT_TRUE(eventually([this] { return proxy->connections() == 0; }));
}

TEST_F(Http1, FastCallerAndSlowAgentStayBelowTheWatermarks) {
  start();
  Peer client = caller();
  client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n");
  Peer server = agent.accept();
  EXPECT_LT(client.send_until_full(256 << 20), 32u << 20);
}

TEST_F(Http1, CallerThatResetsFreesTheAgentsConnection) {
  start();
  Peer client = caller();
  client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  client.reset();
  EXPECT_EQ(server.read_all(), "");
  EXPECT_TRUE(eventually([this] { return proxy->in_flight() == 0; }));
}

TEST_F(Http1, ResponseCutShortIsCutShortForTheCallerToo) {
  start();
  Peer client = caller();
  client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  server.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
  client.read_head();
  EXPECT_EQ(client.read_bytes(3), "abc");
  server.close();
  EXPECT_EQ(client.read_all(), "") << "nothing may look like the missing seven bytes";
  EXPECT_TRUE(eventually([this] { return observer.finished.size() == 1; }));
  EXPECT_FALSE(on_loop([this] { return observer.finished[0].complete; }));
}

TEST_F(Http1, TooManyRequestsInFlightGet503WithRetryAfter) {
  filter_options.limits.requests_in_flight_max = 1;
  start();
  Peer first = caller();
  first.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  Peer second = caller();
  second.send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
  const std::string head = second.read_head();
  EXPECT_TRUE(head.starts_with("HTTP/1.1 503 ")) << head;
  EXPECT_TRUE(contains(head, "etry-after: 1\r\n")) << head;
  server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  first.read_head();
  second.read_until("}\n");
  second.send("GET /3 HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_TRUE(server.read_head().starts_with("GET /3 "));
}

}  // namespace
}  // namespace remora::test
