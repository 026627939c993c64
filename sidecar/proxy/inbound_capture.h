// One port at which the connections of a whole pod arrive (redirect rules, or callers who know it),
// given out by the port they were meant for: an agent's proxy, or, for ports that are no agent's, a
// plain relay to where they were meant for. Never to the loopback address instead: what listens
// only there is not for the pod's neighbours.
//
// Loop thread only.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sidecar/net/listener.h"
#include "sidecar/proxy/agent_gate.h"
#include "sidecar/proxy/proxy_server.h"

namespace remora {

// Addresses that are no agent's and were asked for; connections to further ones are closed.
inline constexpr size_t relayed_ports_max = 64;

class InboundCapture {
 public:
  struct Route {
    uint16_t port = 0;
    ProxyServer* proxy = nullptr;
  };

  // routes: at least one; connections that were not redirected go to the first. The proxies must
  // outlive it. Errors: those of Listener::open.
  static Result<std::unique_ptr<InboundCapture>> open(Loop& loop, const SocketAddress& listen,
                                                      std::vector<Route> routes);

  const SocketAddress& address() const { return listener_->address(); }
  // No new connections, for good; those to ports that are no agent's go on.
  void stop() { listener_->stop(); }

 private:
  InboundCapture(Loop& loop, std::vector<Route> routes)
      : loop_(loop), routes_(std::move(routes)), always_(loop) {
    always_.open();
  }
  void on_accept(UniqueFd fd, std::string peer);
  ProxyServer* proxy_for(const SocketAddress& meant);

  Loop& loop_;
  const std::vector<Route> routes_;
  AgentGate always_;  // nobody heals what is behind the other ports
  std::map<std::string, std::unique_ptr<ProxyServer>> relays_;  // by address
  std::unique_ptr<Listener> listener_;
};

}  // namespace remora
