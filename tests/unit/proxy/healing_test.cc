// Callers lose nothing: what happens to requests while the agent dies and is reborn.
#include "tests/unit/proxy/proxy_fixture.h"

namespace remora::test {
namespace {

class Healing : public ProxyTest {
 protected:
  void answer(Peer& server, std::string_view body) {
    server.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
                std::string(body));
  }
  void expect_answer(Peer& client, std::string_view body) {
    const std::string head = client.read_head();
    EXPECT_TRUE(head.starts_with("HTTP/1.1 200 ")) << head;
    EXPECT_EQ(client.read_bytes(body.size()), body);
  }
  // The agent dies with what it has in its hands, as the supervisor sees it.
  void kill_agent(Peer& server) {
    agent.die();
    server.reset();
    close_gate();
  }
  void revive_agent() {
    agent.come_back();
    open_gate();
  }
};

TEST_F(Healing, SafeRequestInFlightIsSentAgainToTheRebornAgent) {
  start();
  Peer client = caller();
  client.send("GET /work HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  kill_agent(server);
  EXPECT_TRUE(client.is_silent_for(100));
  revive_agent();
  Peer reborn = agent.accept();
  EXPECT_TRUE(reborn.read_head().starts_with("GET /work "));
  answer(reborn, "done");
  expect_answer(client, "done");
  EXPECT_TRUE(eventually([this] { return observer.finished.size() == 1; }));
  EXPECT_EQ(on_loop([this] { return observer.finished[0].replays; }), 1u);
}

TEST_F(Healing, KeyedPostIsSentAgainWithItsWholeBody) {
  start();
  Peer client = caller();
  client.send(
      "POST /pay HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k1\r\nContent-Length: 8\r\n\r\nabcd");
  Peer server = agent.accept();
  server.read_until("abcd");
  kill_agent(server);
  client.send("efgh");
  revive_agent();
  Peer reborn = agent.accept();
  EXPECT_TRUE(reborn.read_head().starts_with("POST /pay "));
  EXPECT_EQ(reborn.read_bytes(8), "abcdefgh");
  answer(reborn, "paid");
  expect_answer(client, "paid");
}

TEST_F(Healing, DeclaredRouteIsSentAgain) {
  options.router.idempotent.push_back({"POST", "/search"});
  start();
  Peer client = caller();
  client.send("POST /search?q=x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
  Peer server = agent.accept();
  server.read_until("hi");
  kill_agent(server);
  revive_agent();
  Peer reborn = agent.accept();
  reborn.read_until("hi");
  answer(reborn, "found");
  expect_answer(client, "found");
}

TEST_F(Healing, PlainPostInFlightGetsOutcomeUnknownAtOnce) {
  start();
  Peer client = caller();
  client.send("POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
  Peer server = agent.accept();
  server.read_until("hi");
  kill_agent(server);
  const std::string head = client.read_head();
  EXPECT_TRUE(head.starts_with("HTTP/1.1 502 ")) << head;
  EXPECT_NE(head.find("remora-problem: outcome-unknown\r\n"), std::string::npos) << head;
  EXPECT_NE(head.find("application/problem+json"), std::string::npos) << head;
  EXPECT_NE(client.read_until("}\n").find("problems/outcome-unknown"), std::string::npos);
  revive_agent();
  client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer reborn = agent.accept();
  EXPECT_TRUE(reborn.read_head().starts_with("GET /next ")) << "the POST must not come again";
}

TEST_F(Healing, BodyAboveTheReplayLimitIsNotSentAgain) {
  options.exchange.replay_body_bytes_max = 4;
  start();
  Peer client = caller();
  client.send(
      "POST / HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: 6\r\n\r\nabcdef");
  Peer server = agent.accept();
  server.read_until("abcdef");
  kill_agent(server);
  EXPECT_TRUE(client.read_head().starts_with("HTTP/1.1 502 "));
}

TEST_F(Healing, NewRequestsWaitForTheAgentInsteadOfFailing) {
  gate_open_at_start = false;
  start();
  std::vector<Peer> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(caller());
    clients.back().send("POST /new HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
  }
  EXPECT_TRUE(eventually([this] { return proxy->held() == 20; }));
  EXPECT_TRUE(agent.nobody_connects_for(50));
  open_gate();
  for (int i = 0; i < 20; ++i) {
    Peer server = agent.accept();
    server.read_until("hi");
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  }
  for (Peer& client : clients) EXPECT_TRUE(client.read_head().starts_with("HTTP/1.1 200 "));
}

TEST_F(Healing, RequestThatWaitsTooLongGets503) {
  gate_open_at_start = false;
  options.exchange.hold_wait = std::chrono::milliseconds(150);
  start();
  Peer client = caller();
  client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  const std::string head = client.read_head();
  EXPECT_TRUE(head.starts_with("HTTP/1.1 503 ")) << head;
  EXPECT_NE(head.find("retry-after: 5"), std::string::npos) << head;
  EXPECT_NE(client.read_until("}\n").find("problems/agent-unavailable"), std::string::npos);
}

TEST_F(Healing, AgentThatRefusesConnectionsIsTriedUntilItListens) {
  start();
  agent.die();
  Peer client = caller();
  client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
  EXPECT_TRUE(eventually([this] { return proxy->counters().connect_failures >= 2; }));
  agent.come_back();
  Peer server = agent.accept();
  server.read_until("hi");
  answer(server, "ok");
  expect_answer(client, "ok");
}

TEST_F(Healing, RequestThatKillsTheAgentEachTimeIsGivenUp) {
  options.exchange.replays_max = 2;
  start();
  Peer client = caller();
  client.send("GET /poison HTTP/1.1\r\nHost: a\r\n\r\n");
  for (int i = 0; i < 3; ++i) {
    Peer server = agent.accept();
    EXPECT_TRUE(server.read_head().starts_with("GET /poison "));
    kill_agent(server);
    revive_agent();
  }
  EXPECT_TRUE(client.read_head().starts_with("HTTP/1.1 502 "));
  EXPECT_NE(client.read_until("}\n").find("problems/replays-exhausted"), std::string::npos);
  EXPECT_TRUE(agent.nobody_connects_for(50));
}

TEST_F(Healing, IdleConnectionThatTheAgentClosedIsRetriedForSafeRequests) {
  start();
  Peer client = caller();
  client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  answer(server, "1");
  expect_answer(client, "1");
  // The agent closes just as the next request arrives: it has read it, and answers nothing.
  client.send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_TRUE(server.read_head().starts_with("GET /2 "));
  server.close();
  Peer fresh = agent.accept();
  EXPECT_TRUE(fresh.read_head().starts_with("GET /2 "));
  answer(fresh, "2");
  expect_answer(client, "2");
  EXPECT_EQ(on_loop([this] { return proxy->counters().replays; }), 0u);
}

TEST_F(Healing, IdleConnectionSeenClosedIsNeverUsed) {
  start();
  Peer client = caller();
  client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  answer(server, "1");
  expect_answer(client, "1");
  server.close();
  EXPECT_TRUE(eventually([this] { return proxy->upstream_connections() == 0; }));
  client.send("POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
  Peer fresh = agent.accept();
  fresh.read_until("hi");
  answer(fresh, "2");
  expect_answer(client, "2");
}

TEST_F(Healing, ResponseThatHasBegunIsNeverStartedAgain) {
  start();
  Peer client = caller();
  client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
  client.read_until("abc\r\n");
  kill_agent(server);
  revive_agent();
  EXPECT_EQ(client.read_all(), "") << "cut off, without the last chunk";
  EXPECT_TRUE(agent.nobody_connects_for(50));
}

TEST_F(Healing, CallerThatLeavesWhileHeldIsForgotten) {
  gate_open_at_start = false;
  start();
  Peer client = caller();
  client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_TRUE(eventually([this] { return proxy->held() == 1; }));
  client.reset();
  EXPECT_TRUE(eventually([this] { return proxy->in_flight() == 0; }));
  open_gate();
  EXPECT_TRUE(agent.nobody_connects_for(50));
}

TEST_F(Healing, DrainFinishesWhatIsInFlightAndTakesNothingNew) {
  start();
  Peer busy = caller();
  busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  Peer idle = caller();
  idle.send("GET /quick HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer other = agent.accept();
  other.read_head();
  answer(other, "q");
  expect_answer(idle, "q");

  std::promise<void> drained;
  on_loop([&] { proxy->drain(std::chrono::seconds(10), [&] { drained.set_value(); }); });
  const SocketAddress address = on_loop([this] { return proxy->address(); });
  const UniqueFd late(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_NE(::connect(late.get(), address.get(), address.length()), 0);
  EXPECT_TRUE(idle.is_silent_for(drain_silence_ms_max + 200)) << "the agent still works";
  idle.send("GET /one-more HTTP/1.1\r\nHost: a\r\n\r\n");
  other.read_head();
  answer(other, "more");
  const std::string last = idle.read_all();
  EXPECT_NE(last.find("onnection: close\r\n"), std::string::npos) << last;
  EXPECT_TRUE(last.ends_with("more")) << last;
  auto done = drained.get_future();
  EXPECT_EQ(done.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  answer(server, "slow");
  const std::string reply = busy.read_all();
  EXPECT_NE(reply.find("onnection: close\r\n"), std::string::npos) << reply;
  EXPECT_TRUE(reply.ends_with("slow")) << reply;
  EXPECT_EQ(done.wait_for(std::chrono::seconds(5)), std::future_status::ready);
}

TEST_F(Healing, ADrainEndsAnIdleConnectionWithoutAResetForWhatCrosses) {
  start();
  Peer idle = caller();
  idle.send("GET /quick HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  answer(server, "q");
  expect_answer(idle, "q");
  std::promise<void> drained;
  on_loop([&] { proxy->drain(std::chrono::seconds(60), [&] { drained.set_value(); }); });
  EXPECT_FALSE(idle.is_silent_for(wait_ms_max)) << "silent for so long, and still open";
  idle.send("GET /crosses HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(idle.read_all(), "");
  EXPECT_FALSE(idle.was_reset());
  EXPECT_EQ(drained.get_future().wait_for(std::chrono::seconds(5)), std::future_status::ready);
}

TEST_F(Healing, WhoHasBeenToldForLongIsNotAwaitedAgain) {
  start();
  Peer idle = caller();
  idle.send("GET /quick HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  answer(server, "q");
  expect_answer(idle, "q");
  on_loop([&] { proxy->announce_end(); });
  EXPECT_TRUE(idle.is_silent_for(drain_silence_ms_max + 50));
  on_loop([&] { proxy->drain(std::chrono::seconds(60), [] {}); });
  EXPECT_FALSE(idle.is_silent_for(drain_silence_ms_max / 2));
}

TEST_F(Healing, WhoHasJustComeWhenTheDrainBeginsIsServedOnce) {
  start();
  Peer fresh = caller();
  std::promise<void> drained;
  on_loop([&] { proxy->drain(std::chrono::seconds(10), [&] { drained.set_value(); }); });
  fresh.send("GET /just HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  answer(server, "just");
  const std::string reply = fresh.read_all();
  EXPECT_NE(reply.find("onnection: close\r\n"), std::string::npos) << reply;
  EXPECT_TRUE(reply.ends_with("just")) << reply;
  EXPECT_EQ(drained.get_future().wait_for(std::chrono::seconds(5)), std::future_status::ready);
}

TEST_F(Healing, ADrainDoesNotWaitForWhoSaysNothing) {
  start();
  Peer silent = caller();
  std::promise<void> drained;
  on_loop([&] { proxy->drain(std::chrono::seconds(60), [&] { drained.set_value(); }); });
  EXPECT_EQ(drained.get_future().wait_for(std::chrono::seconds(5)), std::future_status::ready);
  EXPECT_EQ(silent.read_all(), "");
}

TEST_F(Healing, AnAnnouncedEndServesOnAndSendsEachCallerElsewhere) {
  start();
  Peer kept = caller();
  kept.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  answer(server, "1");
  expect_answer(kept, "1");
  on_loop([&] { proxy->announce_end(); });
  EXPECT_TRUE(kept.is_silent_for(50)) << "a request may be on its way";

  const auto expect_last_answer = [&](Peer& peer) {
    peer.send("GET /last HTTP/1.1\r\nHost: a\r\n\r\n");
    server.read_head();
    answer(server, "last");
    const std::string reply = peer.read_all();
    EXPECT_NE(reply.find("onnection: close\r\n"), std::string::npos) << reply;
    EXPECT_TRUE(reply.ends_with("last")) << reply;
  };
  expect_last_answer(kept);
  Peer fresh = caller();
  expect_last_answer(fresh);
}

TEST_F(Healing, DrainCutsOffWhatDoesNotFinishInTime) {
  start();
  Peer busy = caller();
  busy.send("GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  std::promise<void> drained;
  on_loop([&] { proxy->drain(std::chrono::milliseconds(100), [&] { drained.set_value(); }); });
  EXPECT_EQ(drained.get_future().wait_for(std::chrono::seconds(5)), std::future_status::ready);
  const std::string reply = busy.read_all();
  EXPECT_TRUE(reply.starts_with("HTTP/1.1 502 ")) << reply;
  EXPECT_NE(reply.find("outcome-unknown"), std::string::npos) << reply;
}

TEST_F(Healing, DrainTellsHeldRequestsThatNothingWasDone) {
  gate_open_at_start = false;
  start();
  Peer held = caller();
  held.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
  EXPECT_TRUE(eventually([this] { return proxy->held() == 1; }));
  on_loop([&] { proxy->drain(std::chrono::milliseconds(50), [] {}); });
  const std::string reply = held.read_all();
  EXPECT_TRUE(reply.starts_with("HTTP/1.1 503 ")) << reply;
  EXPECT_NE(reply.find("problems/draining"), std::string::npos) << reply;
}

}  // namespace
}  // namespace remora::test
