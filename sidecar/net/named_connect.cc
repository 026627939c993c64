#include "sidecar/net/named_connect.h"

#include <utility>
#include <vector>

#include "sidecar/net/tcp.h"

namespace remora {
namespace {

class NamedTransport final : public Transport, private TransportEvents {
 public:
  NamedTransport(EventLoop& loop, Resolver* resolver, NamedServer server)
      : loop_(loop),
        resolver_(resolver),
        server_(std::move(server)),
        name_(server_.host + ":" + std::to_string(server_.port)) {}

  void start(TransportEvents& events) override {
    events_ = &events;
    limit_ = loop_.add_timer(server_.connect_timeout, [this] {
      fail({ErrorCode::kTimeout, ErrorSource::kUpstream, true,
            "no connection within " + std::to_string(to_ms(server_.connect_timeout)) + " ms"});
    });
    if (const auto literal = make_socket_address(server_.host, server_.port);
        literal && is_address(server_.host)) {
      addresses_ = {*literal};
      return connect();
    }
    lookup_ = resolver_->resolve(server_.host, server_.port,
                                 [this](Result<std::vector<SocketAddress>> found) {
                                   lookup_.reset();
                                   if (!found) return fail(std::move(found.error()));
                                   addresses_ = std::move(*found);
                                   connect();
                                 });
  }

  // Before it is connected there is nothing to write to, nothing to read, nothing to end.
  void set_events(TransportEvents& events) override {
    events_ = &events;
    if (is_connected_) inner_->set_events(events);
  }
  Result<size_t> write(std::span<const uint8_t> bytes) override {
    return is_connected_ ? inner_->write(bytes) : 0;
  }
  void set_read_paused(bool paused) override {
    if (is_connected_) inner_->set_read_paused(paused);
  }
  void shutdown_write() override {
    if (is_connected_) inner_->shutdown_write();
  }
  bool has_unread() const override { return is_connected_ && inner_->has_unread(); }
  const std::string& peer_address() const override {
    return is_connected_ ? inner_->peer_address() : name_;
  }

 private:
  void connect() {
    inner_ = connect_socket(loop_, addresses_[tried_], server_.connect_timeout / 2,
                            server_.socket_priority);
    if (server_.tls) {
      inner_ = wrap_tls_client(loop_, server_.tls, std::move(inner_), server_.host);
    }
    inner_->start(*this);
  }

  // From the connection while it is being made; afterwards its events go to the owner directly.
  void on_connected() override {
    limit_.cancel();
    is_connected_ = true;
    inner_->set_events(*events_);
    events_->on_connected();
  }
  void on_read(std::span<const uint8_t> /*bytes*/) override {}
  void on_read_eof() override {}
  void on_writable() override {}
  void on_transport_error(const Error& error) override {
    loop_.defer_delete(std::move(inner_));
    if (++tried_ < addresses_.size()) return connect();
    fail(error);
  }

  void fail(Error error) {
    limit_.cancel();
    lookup_.reset();
    if (inner_) loop_.defer_delete(std::move(inner_));
    events_->on_transport_error(std::move(error).with_context(name_));
  }

  EventLoop& loop_;
  Resolver* const resolver_;
  const NamedServer server_;
  const std::string name_;
  TransportEvents* events_ = nullptr;
  std::vector<SocketAddress> addresses_;
  size_t tried_ = 0;
  bool is_connected_ = false;
  std::unique_ptr<Lookup> lookup_;
  std::unique_ptr<Transport> inner_;
  Subscription limit_;
};

}  // namespace

std::unique_ptr<Transport> connect_by_name(EventLoop& loop, Resolver* resolver,
                                           NamedServer server) {
  return std::make_unique<NamedTransport>(loop, resolver, std::move(server));
}

bool is_address(const std::string& host) {
  return host != "localhost" && make_socket_address(host, 0).has_value();
}

}  // namespace remora
