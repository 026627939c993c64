#include "sidecar/proxy/outbound.h"

#include <algorithm>
#include <utility>

#include "sidecar/base/log.h"
#include "sidecar/net/original_dst.h"
#include "sidecar/net/tcp.h"
#include "sidecar/proxy/proxy_request.h"
#include "sidecar/proxy/proxy_server.h"

namespace remora {

// A caller of the explicit proxy, until the connection it asked for is there.
class OutboundServer::ProxyCall final : public Connection, TransportEvents {
 public:
  ProxyCall(OutboundServer& owner, std::unique_ptr<Transport> downstream)
      : owner_(owner),
        downstream_(std::move(downstream)),
        began_at_(owner.loop_.now()),
        upstream_events_(*this) {}

  void start() { downstream_->start(*this); }
  void on_tick(MonotonicTime now) override {
    if (!request_ && now - began_at_ > owner_.options_.head_timeout) refuse(408, "no request");
  }
  void start_drain() override {}
  void close() override {
    if (std::exchange(over_, true)) return;
    owner_.on_connection_closed(*this);
  }

  // What become_tunnel() takes over.
  std::unique_ptr<Transport> downstream() { return std::move(downstream_); }
  std::unique_ptr<Transport> upstream() { return std::move(upstream_); }
  bool caller_ended() const { return caller_ended_; }
  std::string to_upstream() const { return request_->head + bytes_.substr(head_bytes_); }
  std::string to_caller() const {
    return request_->is_connect ? "HTTP/1.1 200 Connection established\r\n\r\n" : "";
  }
  void mark_over() { over_ = true; }

 private:
  struct UpstreamEvents final : TransportEvents {
    explicit UpstreamEvents(ProxyCall& owner) : call(owner) {}
    void on_connected() override { call.on_upstream_connected(); }
    void on_read(std::span<const uint8_t> /*bytes*/) override {}
    void on_read_eof() override {}
    void on_writable() override {}
    void on_transport_error(const Error& error) override { call.on_upstream_failed(error); }
    ProxyCall& call;
  };

  void on_read(std::span<const uint8_t> bytes) override {
    if (over_) return;
    bytes_ += as_text(bytes);
    if (request_) {
      // The body may come before there is somebody to give it to.
      if (bytes_.size() > proxy_request_bytes_max) downstream_->set_read_paused(true);
      return;
    }
    head_bytes_ = proxy_head_bytes(bytes_);
    if (head_bytes_ == 0) {
      if (bytes_.size() > proxy_request_bytes_max) refuse(431, "the head is too large");
      return;
    }
    Result<ProxyRequest> parsed =
        parse_proxy_request(std::string_view(bytes_).substr(0, head_bytes_));
    if (!parsed) return refuse(400, parsed.error().message);
    request_ = std::move(*parsed);
    look_up();
  }
  void on_read_eof() override {
    caller_ended_ = true;
    if (!request_) close();
  }
  void on_writable() override {}
  void on_transport_error(const Error& /*error*/) override { close(); }

  void look_up() {
    if (const auto literal = make_socket_address(request_->host, request_->port);
        literal && request_->host != "localhost") {
      addresses_ = {*literal};
      return connect();
    }
    const Result<Resolver*> resolver = owner_.resolver();
    if (!resolver) return refuse(502, resolver.error().message);
    lookup_ = (*resolver)->resolve(request_->host, request_->port,
                                   [this](Result<std::vector<SocketAddress>> found) {
                                     lookup_.reset();
                                     if (!found) return refuse(502, found.error().message);
                                     addresses_ = std::move(*found);
                                     connect();
                                   });
  }

  void connect() {
    upstream_ = connect_socket(owner_.loop_, addresses_[tried_], owner_.options_.connect_timeout,
                               owner_.options_.socket_priority);
    upstream_->start(upstream_events_);
  }
  void on_upstream_connected() {
    if (!over_) owner_.become_tunnel(*this, addresses_[tried_]);
  }
  void on_upstream_failed(const Error& error) {
    if (over_) return;
    owner_.loop_.defer_delete(std::move(upstream_));
    if (++tried_ < addresses_.size()) return connect();
    refuse(502, error.message);
  }

  // The answer is small: what the socket does not take at once of it is lost with the connection.
  void refuse(int status, const std::string& why) {
    if (over_) return;
    const std::string_view reason = status == 400   ? "Bad Request"
                                    : status == 408 ? "Request Timeout"
                                    : status == 431 ? "Request Header Fields Too Large"
                                                    : "Bad Gateway";
    const std::string body = "remora: " + why + "\n";
    const std::string reply = "HTTP/1.1 " + std::to_string(status) + " " + std::string(reason) +
                              "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
                              "Content-Length: " +
                              std::to_string(body.size()) + "\r\n\r\n" + body;
    static_cast<void>(downstream_->write(as_bytes(reply)));
    downstream_->shutdown_write();
    close();
  }

  OutboundServer& owner_;
  std::unique_ptr<Transport> downstream_;
  const MonotonicTime began_at_;
  std::string bytes_;
  size_t head_bytes_ = 0;
  bool caller_ended_ = false;
  bool over_ = false;
  std::optional<ProxyRequest> request_;
  std::vector<SocketAddress> addresses_;
  size_t tried_ = 0;
  UpstreamEvents upstream_events_;
  std::unique_ptr<Lookup> lookup_;
  std::unique_ptr<Transport> upstream_;
};

Result<std::unique_ptr<OutboundServer>> OutboundServer::open(EventLoop& loop,
                                                             OutboundOptions options) {
  std::unique_ptr<OutboundServer> server(new OutboundServer(loop, std::move(options)));
  OutboundServer* const self = server.get();
  for (const SocketAddress& address : server->options_.capture) {
    Result<void> opened = server->listen(address, [self](UniqueFd fd, std::string peer) {
      self->on_captured(std::move(fd), std::move(peer));
    });
    if (opened) continue;
    if (address.family() != AF_INET6 || server->listeners_.empty()) {
      return std::unexpected(std::move(opened.error()));
    }
    // Where there is no IPv6, none is captured.
    log_info("not_listening", {{"listener", "outbound"}, {"reason", opened.error().message}});
  }
  if (server->options_.proxy) {
    Result<void> opened =
        server->listen(*server->options_.proxy, [self](UniqueFd fd, std::string peer) {
          self->on_proxy_caller(std::move(fd), std::move(peer));
        });
    if (!opened) return std::unexpected(std::move(opened.error()));
  }
  return server;
}

OutboundServer::OutboundServer(EventLoop& loop, OutboundOptions options)
    : loop_(loop), options_(std::move(options)), always_(loop) {
  always_.open();
}

OutboundServer::~OutboundServer() {
  while (!connections_.empty()) connections_.back()->close();
}

Result<void> OutboundServer::listen(const SocketAddress& address,
                                    Listener::RawAcceptCallback on_accept) {
  Result<std::unique_ptr<Listener>> listener =
      Listener::open_raw(loop_, address, std::move(on_accept));
  if (!listener) return std::unexpected(std::move(listener.error()));
  listeners_.push_back(std::move(*listener));
  return {};
}

std::vector<SocketAddress> OutboundServer::addresses() const {
  std::vector<SocketAddress> all;
  for (const auto& listener : listeners_) all.push_back(listener->address());
  return all;
}

TunnelOptions OutboundServer::tunnel_to(const SocketAddress& upstream) const {
  return {.upstream = upstream,
          .connect_timeout = options_.connect_timeout,
          .hold_wait = Duration::zero(),
          .socket_priority = options_.socket_priority};
}

void OutboundServer::on_captured(UniqueFd fd, std::string peer) {
  const Result<std::optional<SocketAddress>> meant = original_destination(fd.get());
  if (!meant || !*meant) {
    log_warn("capture_refused",
             {{"peer", peer},
              {"reason", meant ? "it was not redirected: passing it on would be a loop"
                               : meant.error().message}});
    return;
  }
  auto tunnel = std::make_unique<Tunnel>(loop_, always_, *this,
                                         adopt_socket(loop_, std::move(fd), std::move(peer)),
                                         tunnel_to(**meant));
  Tunnel& raw = *tunnel;
  ++counters_.captured;
  adopt(std::move(tunnel));
  raw.start();
}

void OutboundServer::on_proxy_caller(UniqueFd fd, std::string peer) {
  auto call =
      std::make_unique<ProxyCall>(*this, adopt_socket(loop_, std::move(fd), std::move(peer)));
  ProxyCall& raw = *call;
  ++counters_.proxied;
  adopt(std::move(call));
  raw.start();
}

void OutboundServer::become_tunnel(ProxyCall& call, const SocketAddress& upstream) {
  auto tunnel =
      std::make_unique<Tunnel>(loop_, always_, *this, call.downstream(), tunnel_to(upstream));
  Tunnel& raw = *tunnel;
  call.mark_over();
  const size_t index = call.list_index;
  tunnel->list_index = index;
  std::unique_ptr<Connection> old = std::exchange(connections_[index], std::move(tunnel));
  raw.resume(call.to_upstream(), call.caller_ended(), call.upstream(), call.to_caller());
  loop_.defer_delete(std::move(old));
}

Result<Resolver*> OutboundServer::resolver() {
  if (!resolver_) {
    Result<std::unique_ptr<Resolver>> made = Resolver::create(loop_);
    if (!made) return std::unexpected(std::move(made.error()));
    resolver_ = std::move(*made);
  }
  return resolver_.get();
}

void OutboundServer::adopt(std::unique_ptr<Connection> connection) {
  connection->list_index = connections_.size();
  connections_.push_back(std::move(connection));
  if (connections_.size() >= options_.connections_max) {
    for (const auto& listener : listeners_) listener->set_paused(true);
  }
  if (!tick_) {
    tick_ = loop_.add_timer(std::chrono::milliseconds(tick_interval_ms), [this] { on_tick(); });
  }
}

void OutboundServer::on_connection_closed(Connection& connection) {
  const size_t index = connection.list_index;
  std::swap(connections_[index], connections_.back());
  connections_[index]->list_index = index;
  loop_.defer_delete(std::move(connections_.back()));
  connections_.pop_back();
  if (connections_.size() < options_.connections_max) {
    for (const auto& listener : listeners_) listener->set_paused(false);
  }
}

// Runs only while there is a connection, so that an idle sidecar sleeps.
void OutboundServer::on_tick() {
  const MonotonicTime now = loop_.now();
  for (size_t i = connections_.size(); i-- > 0;) {
    if (i < connections_.size()) connections_[i]->on_tick(now);
  }
  tick_.cancel();
  if (connections_.empty()) return;
  tick_ = loop_.add_timer(std::chrono::milliseconds(tick_interval_ms), [this] { on_tick(); });
}

}  // namespace remora
