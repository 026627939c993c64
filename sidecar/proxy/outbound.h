// The way from the agent to models, tools and other agents: connections that redirect rules
// captured go on to where they were meant for, and callers that know of the proxy say where
// (HTTP_PROXY, CONNECT). Bytes pass as they are.
//
//   captured  -> original destination ----------------> Tunnel
//   HTTP_PROXY -> ProxyCall (head, name, connection) --> Tunnel
//
// Outbound traffic is not drained: an agent that is being ended may still call, until it is gone.
// Loop thread only.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sidecar/net/listener.h"
#include "sidecar/net/resolver.h"
#include "sidecar/proxy/agent_gate.h"
#include "sidecar/proxy/tunnel.h"

namespace remora {

struct OutboundOptions {
  // Where captured connections arrive, IPv4 first; none: nothing is captured.
  std::vector<SocketAddress> capture;
  // The explicit proxy; a loopback address.
  std::optional<SocketAddress> proxy;
  Duration connect_timeout = std::chrono::seconds(10);
  // Between a caller's connection and the whole head of its request.
  Duration head_timeout = std::chrono::seconds(10);
  size_t connections_max = 4096;
  // So that the rules let our own connections pass.
  int socket_priority = 0;
};

struct OutboundCounters {
  uint64_t captured = 0;  // connections, from the beginning
  uint64_t proxied = 0;
};

class OutboundServer final : public ConnectionOwner {
 public:
  // Errors: those of Listener::open.
  static Result<std::unique_ptr<OutboundServer>> open(EventLoop& loop, OutboundOptions options);
  ~OutboundServer() override;
  OutboundServer(const OutboundServer&) = delete;
  OutboundServer& operator=(const OutboundServer&) = delete;

  std::vector<SocketAddress> addresses() const;
  size_t connections() const { return connections_.size(); }
  const OutboundCounters& counters() const { return counters_; }

 private:
  class ProxyCall;

  OutboundServer(EventLoop& loop, OutboundOptions options);
  Result<void> listen(const SocketAddress& address, Listener::RawAcceptCallback on_accept);
  void on_captured(UniqueFd fd, std::string peer);
  void on_proxy_caller(UniqueFd fd, std::string peer);
  TunnelOptions tunnel_to(const SocketAddress& upstream) const;
  void adopt(std::unique_ptr<Connection> connection);
  // Puts a tunnel in the call's place.
  void become_tunnel(ProxyCall& call, const SocketAddress& upstream);
  Result<Resolver*> resolver();
  void on_connection_closed(Connection& connection) override;
  void on_tick();

  EventLoop& loop_;
  const OutboundOptions options_;
  AgentGate always_;                    // nobody heals what is out there
  std::unique_ptr<Resolver> resolver_;  // made for the first name
  OutboundCounters counters_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  Subscription tick_;
};

}  // namespace remora
