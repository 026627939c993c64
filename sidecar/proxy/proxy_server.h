// One listener with all that belongs to it: its connections, the filters, the pool of connections
// to the agent, and the tick that keeps the timeouts. The data path is read from here: accept ->
// Detector -> Session or Tunnel -> Exchange -> UpstreamPool.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sidecar/net/listener.h"
#include "sidecar/proxy/connection.h"
#include "sidecar/proxy/detector.h"
#include "sidecar/proxy/exchange.h"
#include "sidecar/proxy/proxy_context.h"
#include "sidecar/proxy/session.h"
#include "sidecar/proxy/tunnel.h"

namespace remora {

enum class ListenerProtocol { kAuto, kHttp1, kHttp2, kTcp };

struct ProxyOptions {
  std::string name;  // "inbound": in logs and metrics
  SocketAddress listen;
  // False: it has no port of its own, connections are given to it by accept().
  bool accepts = true;
  ListenerProtocol protocol = ListenerProtocol::kAuto;
  size_t connections_max = 4096;
  ConnectionTimeouts timeouts;
  http::CodecLimits downstream_limits;
  UpstreamOptions upstream;
  RouterOptions router;
  ExchangeOptions exchange;
};

inline constexpr int just_lost_ms_max = 1000;
inline constexpr int tick_interval_ms = 100;
// At the end of a drain: for answers that the proxy itself gives.
inline constexpr int last_answers_ms_max = 250;

class ProxyServer final : public ConnectionOwner, public DetectorHost {
 public:
  // Listens at once. filters in request order.
  static Result<std::unique_ptr<ProxyServer>> start(Loop& loop, AgentGate& gate,
                                                    ProxyOptions options, FilterChain filters);
  ~ProxyServer() override;
  ProxyServer(const ProxyServer&) = delete;
  ProxyServer& operator=(const ProxyServer&) = delete;

  // Only with a port of its own.
  const SocketAddress& address() const { return listener_->address(); }
  // A caller that came in elsewhere. One that comes while it drains is closed.
  void accept(std::unique_ptr<Transport> transport);
  const ProxyCounters& counters() const { return context_.counters; }
  size_t in_flight() const { return context_.exchanges.size(); }
  size_t held() const;
  size_t connections() const { return connections_.size(); }
  // When the last new connection came; nothing before the first.
  std::optional<MonotonicTime> last_accepted_at() const { return last_accepted_at_; }
  size_t upstream_connections() const { return pool_.connections(); }
  // Requests that the agent has and owes an answer to, oldest first, streams left out.
  std::vector<InFlightRequest> in_agent() const;
  // The same, and those whose connection broke within the last moment: what the agent held when it
  // died, whichever is seen first.
  std::vector<InFlightRequest> in_agent_or_just_lost() const;
  // Age of the oldest of them; zero when there is none.
  Duration oldest_in_agent() const;

  // Before a drain, while callers may still be sent here: serves on, and asks each to go elsewhere.
  void announce_end();
  // Stops accepting, lets what is in flight finish and serves what still comes on connections that
  // are open: those that stay idle are ended last. Past limit the rest is answered by the proxy
  // (503 when it never reached the agent, else 502) or cut off. done is posted once no connection
  // is left. May be called again with a shorter limit: every done is called.
  void drain(Duration limit, std::move_only_function<void()> done);
  // New limits and timeouts for connections and requests that come from now on (a reload).
  void update(const ProxyOptions& options, FilterChain filters);

 private:
  ProxyServer(Loop& loop, AgentGate& gate, ProxyOptions options, FilterChain filters);
  void on_accept(std::unique_ptr<Transport> transport);
  void adopt(std::unique_ptr<Connection> connection);
  void replace(Connection& old, std::unique_ptr<Connection> next);
  std::unique_ptr<Connection> take(Connection& connection);
  void pause_accepting(bool paused) {
    if (listener_) listener_->set_paused(paused);
  }
  void schedule_tick();
  void on_tick();
  void close_all();
  void answer_the_rest();
  void finish_drain_if_empty();
  std::unique_ptr<Session> make_session(std::unique_ptr<Transport> transport, bool http2);
  std::unique_ptr<Tunnel> make_tunnel(std::unique_ptr<Transport> transport);

  // ConnectionOwner
  void on_connection_closed(Connection& connection) override;
  // DetectorHost
  bool may_be_server_first() const override { return !seen_http_; }
  const SocketAddress& agent_address() const override { return options_.upstream.address; }
  void become_session(Detector& detector, std::unique_ptr<Transport> transport, bool http2,
                      std::string_view first_bytes) override;
  void become_tunnel(Detector& detector, std::unique_ptr<Transport> transport,
                     std::string_view from_caller, bool caller_ended,
                     std::unique_ptr<Transport> upstream, std::string_view from_agent) override;

  Loop& loop_;
  AgentGate& gate_;
  ProxyOptions options_;
  TunnelOptions tunnel_options_;
  UpstreamPool pool_;
  Router router_;
  ProxyContext context_;
  std::unique_ptr<Listener> listener_;  // none without options_.accepts
  std::vector<std::unique_ptr<Connection>> connections_;
  std::optional<MonotonicTime> last_accepted_at_;
  bool seen_http_ = false;
  Subscription tick_;
  std::vector<Task> drained_;
  Subscription drain_limit_;
};

}  // namespace remora
