#include "sidecar/proxy/proxy_server.h"

#include <algorithm>
#include <utility>

namespace remora {

Result<std::unique_ptr<ProxyServer>> ProxyServer::start(Loop& loop, AgentGate& gate,
                                                        ProxyOptions options, FilterChain filters) {
  std::unique_ptr<ProxyServer> server(
      new ProxyServer(loop, gate, std::move(options), std::move(filters)));
  if (!server->options_.accepts) return server;
  Result<std::unique_ptr<Listener>> listener = Listener::open(
      loop, server->options_.listen,
      [raw = server.get()](std::unique_ptr<Transport> t) { raw->on_accept(std::move(t)); });
  if (!listener) return std::unexpected(std::move(listener.error()));
  server->listener_ = std::move(*listener);
  return server;
}

ProxyServer::ProxyServer(Loop& loop, AgentGate& gate, ProxyOptions options, FilterChain filters)
    : loop_(loop),
      gate_(gate),
      options_(std::move(options)),
      tunnel_options_{options_.upstream.address, options_.timeouts.connect,
                      options_.exchange.hold_wait},
      pool_(loop, options_.upstream),
      router_(options_.router),
      context_{.loop = loop,
               .gate = gate,
               .pool = pool_,
               .router = router_,
               .filters = std::make_shared<const FilterChain>(std::move(filters)),
               .exchange_options = options_.exchange,
               .listener_name = options_.name,
               .counters = {},
               .exchanges = {},
               .lost = {}} {}

ProxyServer::~ProxyServer() { close_all(); }

void ProxyServer::update(const ProxyOptions& options, FilterChain filters) {
  options_.timeouts = options.timeouts;
  options_.downstream_limits = options.downstream_limits;
  options_.connections_max = options.connections_max;
  options_.exchange = options.exchange;
  context_.exchange_options = options.exchange;
  context_.filters = std::make_shared<const FilterChain>(std::move(filters));
  router_ = Router(options.router);
}

size_t ProxyServer::held() const {
  return static_cast<size_t>(std::ranges::count_if(
      context_.exchanges, [](const Exchange* e) { return e->phase() == Exchange::Phase::kHeld; }));
}

namespace {

bool owes_answer(const Exchange& exchange) {
  return (exchange.phase() == Exchange::Phase::kInAgent ||
          exchange.phase() == Exchange::Phase::kResponding) &&
         !exchange.is_stream();
}

}  // namespace

std::vector<InFlightRequest> ProxyServer::in_agent() const {
  std::vector<InFlightRequest> requests;
  for (const Exchange* exchange : context_.exchanges) {
    if (!owes_answer(*exchange)) continue;
    requests.push_back(ProxyContext::describe(exchange->head(), loop_.now() - exchange->sent_at()));
  }
  std::ranges::sort(requests, std::ranges::greater{}, &InFlightRequest::age);
  return requests;
}

std::vector<InFlightRequest> ProxyServer::in_agent_or_just_lost() const {
  std::vector<InFlightRequest> requests = in_agent();
  for (const ProxyContext::LostRequest& lost : context_.lost) {
    if (loop_.now() - lost.lost_at < std::chrono::milliseconds(just_lost_ms_max)) {
      requests.push_back(lost.request);
    }
  }
  return requests;
}

Duration ProxyServer::oldest_in_agent() const {
  Duration oldest{};
  for (const Exchange* exchange : context_.exchanges) {
    if (owes_answer(*exchange)) oldest = std::max(oldest, loop_.now() - exchange->sent_at());
  }
  return oldest;
}

void ProxyServer::accept(std::unique_ptr<Transport> transport) {
  if (context_.draining || connections_.size() >= options_.connections_max) return;
  on_accept(std::move(transport));
}

void ProxyServer::on_accept(std::unique_ptr<Transport> transport) {
  last_accepted_at_ = loop_.now();
  switch (options_.protocol) {
    case ListenerProtocol::kAuto: {
      auto detector =
          std::make_unique<Detector>(loop_, *this, *this, std::move(transport), options_.timeouts);
      Detector& raw = *detector;
      adopt(std::move(detector));
      raw.start();
      break;
    }
    case ListenerProtocol::kHttp1:
    case ListenerProtocol::kHttp2: {
      auto session =
          make_session(std::move(transport), options_.protocol == ListenerProtocol::kHttp2);
      Session& raw = *session;
      adopt(std::move(session));
      raw.start();
      break;
    }
    case ListenerProtocol::kTcp: {
      auto tunnel = make_tunnel(std::move(transport));
      Tunnel& raw = *tunnel;
      adopt(std::move(tunnel));
      raw.start();
      break;
    }
  }
  if (connections_.size() >= options_.connections_max) pause_accepting(true);
}

std::unique_ptr<Session> ProxyServer::make_session(std::unique_ptr<Transport> transport,
                                                   bool http2) {
  return std::make_unique<Session>(context_, *this, std::move(transport),
                                   http2 ? http::Version::kHttp2 : http::Version::kHttp11,
                                   options_.downstream_limits, options_.timeouts);
}

std::unique_ptr<Tunnel> ProxyServer::make_tunnel(std::unique_ptr<Transport> transport) {
  return std::make_unique<Tunnel>(loop_, gate_, *this, std::move(transport), tunnel_options_);
}

void ProxyServer::become_session(Detector& detector, std::unique_ptr<Transport> transport,
                                 bool http2, std::string_view first_bytes) {
  seen_http_ = true;
  auto session = make_session(std::move(transport), http2);
  Session& raw = *session;
  replace(detector, std::move(session));
  raw.resume(as_bytes(first_bytes));
  if (context_.draining) raw.start_drain();
}

void ProxyServer::become_tunnel(Detector& detector, std::unique_ptr<Transport> transport,
                                std::string_view from_caller, bool caller_ended,
                                std::unique_ptr<Transport> upstream, std::string_view from_agent) {
  auto tunnel = make_tunnel(std::move(transport));
  Tunnel& raw = *tunnel;
  replace(detector, std::move(tunnel));
  raw.resume(from_caller, caller_ended, std::move(upstream), from_agent);
}

void ProxyServer::adopt(std::unique_ptr<Connection> connection) {
  connection->list_index = connections_.size();
  connections_.push_back(std::move(connection));
  schedule_tick();
}

void ProxyServer::replace(Connection& old, std::unique_ptr<Connection> next) {
  next->list_index = old.list_index;
  std::swap(connections_[old.list_index], next);
  loop_.defer_delete(std::move(next));
}

std::unique_ptr<Connection> ProxyServer::take(Connection& connection) {
  const size_t index = connection.list_index;
  std::swap(connections_[index], connections_.back());
  connections_[index]->list_index = index;
  std::unique_ptr<Connection> taken = std::move(connections_.back());
  connections_.pop_back();
  return taken;
}

void ProxyServer::on_connection_closed(Connection& connection) {
  loop_.defer_delete(take(connection));
  if (!context_.draining && connections_.size() < options_.connections_max) {
    pause_accepting(false);
  }
  finish_drain_if_empty();
}

// The tick runs only while there is a connection, so that an idle sidecar sleeps.
void ProxyServer::schedule_tick() {
  if (tick_ || connections_.empty()) return;
  tick_ = loop_.add_timer(std::chrono::milliseconds(tick_interval_ms), [this] { on_tick(); });
}

void ProxyServer::on_tick() {
  const MonotonicTime now = loop_.now();
  // By index from the back: a connection that closes itself swaps the last one into its place.
  for (size_t i = connections_.size(); i-- > 0;) {
    if (i < connections_.size()) connections_[i]->on_tick(now);
  }
  pool_.expire_idle(now);
  tick_.cancel();
  schedule_tick();
}

void ProxyServer::announce_end() {
  context_.leaving_since = loop_.now();
  for (size_t i = connections_.size(); i-- > 0;) {
    if (i < connections_.size()) connections_[i]->announce_end();
  }
}

void ProxyServer::drain(Duration limit, std::move_only_function<void()> done) {
  drained_.push_back(std::move(done));
  if (listener_) listener_->stop();
  context_.draining = true;
  if (!context_.leaving_since) context_.leaving_since = loop_.now();
  for (size_t i = connections_.size(); i-- > 0;) {
    if (i < connections_.size()) connections_[i]->start_drain();
  }
  drain_limit_ = loop_.add_timer(limit, [this] { answer_the_rest(); });
  finish_drain_if_empty();
}

void ProxyServer::close_all() {
  while (!connections_.empty()) connections_.back()->close();
}

// Out of time: whoever still waits is told how things stand, and gets a moment to read it.
void ProxyServer::answer_the_rest() {
  for (size_t i = context_.exchanges.size(); i-- > 0;) {
    if (i >= context_.exchanges.size()) continue;
    context_.exchanges[i]->end_for_drain();
  }
  drain_limit_ =
      loop_.add_timer(std::chrono::milliseconds(last_answers_ms_max), [this] { close_all(); });
}

void ProxyServer::finish_drain_if_empty() {
  if (!context_.draining || !connections_.empty()) return;
  drain_limit_.cancel();
  for (Task& done : drained_) loop_.post(std::move(done));
  drained_.clear();
}

}  // namespace remora
