#include "k8s/link/server.h"

#include <utility>

#include "k8s/link/server_wire.h"

namespace remora::link {

Result<std::unique_ptr<Server>> Server::start(Loop& loop, ServerOptions options, OnCall on_call) {
  std::unique_ptr<Server> server(new Server(loop, std::move(options), std::move(on_call)));
  Result<std::unique_ptr<Listener>> listener = Listener::open(
      loop, server->options_.listen, [self = server.get()](std::unique_ptr<Transport> transport) {
        self->on_accept(std::move(transport));
      });
  if (!listener) return std::unexpected(std::move(listener.error()));
  server->listener_ = std::move(*listener);
  return server;
}

Server::Server(Loop& loop, ServerOptions options, OnCall on_call)
    : loop_(loop), options_(std::move(options)), on_call_(std::move(on_call)) {}

Server::~Server() {
  for (auto& [key, wire] : wires_) {
    wire->kill();
    loop_.defer_delete(std::move(wire));
  }
}

void Server::on_accept(std::unique_ptr<Transport> transport) {
  std::string peer = transport->peer_address();
  std::shared_ptr<const TlsContext> tls = options_.tls();
  if (tls == nullptr || retired_) return;
  size_t& of_source = newcomers_of_[peer.substr(0, peer.rfind(':'))];
  if (of_source >= newcomers_per_source_max) return;
  ++of_source;
  auto wire = std::make_unique<ServerWire>(
      loop_, *this, wrap_tls_server(loop_, std::move(tls), std::move(transport)), std::move(peer));
  ServerWire* const here = wire.get();
  wires_[here] = std::move(wire);
  ++newcomers_;
  pace();
  here->start();
}

void Server::pace() {
  if (listener_ == nullptr) return;
  listener_->set_paused(newcomers_ >= newcomers_max || wires_.size() >= connections_max);
}

void Server::on_settled(const std::string& source) {
  --newcomers_;
  const auto found = newcomers_of_.find(source);
  if (--found->second == 0) newcomers_of_.erase(found);
  pace();
}

void Server::on_closed(ServerWire& wire, bool was_newcomer) {
  const std::string source = wire.source();
  const auto found = wires_.find(&wire);
  loop_.defer_delete(std::move(found->second));
  wires_.erase(found);
  if (was_newcomer) return on_settled(source);
  pace();
}

void Server::retire() {
  retired_ = true;
  listener_.reset();
  for (const auto& [key, wire] : wires_) wire->retire();
}

}  // namespace remora::link
