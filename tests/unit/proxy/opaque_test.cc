// Protocol detection and opaque TCP.
#include "tests/unit/proxy/proxy_fixture.h"

namespace remora::test {
namespace {

class Opaque : public ProxyTest {};

TEST_F(Opaque, UnknownFirstBytesAreRelayedAsTheyAre) {
  start();
  Peer client = caller();
  client.send(std::string("\x00\x01\xff raw", 7));
  Peer server = agent.accept();
  EXPECT_EQ(server.read_bytes(7), std::string("\x00\x01\xff raw", 7));
  server.send("answer");
  EXPECT_EQ(client.read_bytes(6), "answer");
}

TEST_F(Opaque, HalfCloseIsPassedOnAndTheReplyStillComes) {
  options.protocol = ListenerProtocol::kTcp;
  start();
  Peer client = caller();
  client.send("all I have");
  client.shutdown_write();
  Peer server = agent.accept();
  EXPECT_EQ(server.read_all(), "all I have");
  EXPECT_TRUE(client.is_silent_for(100));
  server.send("late reply");
  server.close();
  EXPECT_EQ(client.read_all(), "late reply");
}

TEST_F(Opaque, AgentThatSpeaksFirstIsHeardAfterTheDetectTimeout) {
  options.timeouts.detect = std::chrono::milliseconds(50);
  start();
  Peer client = caller();
  Peer server = agent.accept();
  server.send("220 mail ready\r\n");
  EXPECT_EQ(client.read_until("\r\n"), "220 mail ready\r\n");
  client.send("EHLO x\r\n");
  EXPECT_EQ(server.read_until("\r\n"), "EHLO x\r\n");
}

TEST_F(Opaque, SilentCallerThatThenSpeaksHttpIsAnHttpCaller) {
  options.timeouts.detect = std::chrono::milliseconds(50);
  start();
  Peer client = caller();
  Peer unused = agent.accept();  // the proxy asked whether the agent speaks first; it did not
  client.send("GET /late HTTP/1.1\r\nHost: a\r\nX-Request-Timeout: 0.05\r\n\r\n");
  EXPECT_EQ(unused.read_all(), "");
  Peer server = agent.accept();
  EXPECT_TRUE(server.read_head().starts_with("GET /late "));
  EXPECT_TRUE(client.read_head().starts_with("HTTP/1.1 504 ")) << "seen by the filters";
}

TEST_F(Opaque, OnceHttpWasSeenSilentCallersNeverReachTheAgent) {
  options.timeouts.detect = std::chrono::milliseconds(50);
  start();
  Peer client = caller();
  client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer server = agent.accept();
  server.read_head();
  Peer silent = caller();
  EXPECT_TRUE(agent.nobody_connects_for(400));
}

TEST_F(Opaque, ConnectionsWaitForAnAgentThatIsBeingHealed) {
  options.protocol = ListenerProtocol::kTcp;
  gate_open_at_start = false;
  start();
  Peer client = caller();
  client.send("kept");
  EXPECT_TRUE(agent.nobody_connects_for(100));
  open_gate();
  Peer server = agent.accept();
  EXPECT_EQ(server.read_bytes(4), "kept");
}

TEST_F(Opaque, FewBytesAndAnEndAreRelayedToo) {
  start();
  Peer client = caller();
  client.send("GE");
  client.shutdown_write();
  Peer server = agent.accept();
  EXPECT_EQ(server.read_all(), "GE");
  server.send("?");
  server.close();
  EXPECT_EQ(client.read_all(), "?");
}

TEST_F(Opaque, SlowReaderPausesTheSender) {
  options.protocol = ListenerProtocol::kTcp;
  start();
  Peer client = caller();
  client.send("x");
  Peer server = agent.accept();
  EXPECT_LT(server.send_until_full(256 << 20), 32u << 20);
}

}  // namespace
}  // namespace remora::test
