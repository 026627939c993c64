#include "sidecar/admin/server.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "sidecar/admin/connection.h"
#include "sidecar/net/listener.h"

namespace remora {

// One listener with its connections.
class AdminServer::Endpoint final : public AdminConnectionOwner {
 public:
  Endpoint(Loop& loop, AdminSource& source, bool over_tcp)
      : loop_(loop), source_(source), over_tcp_(over_tcp) {}

  Result<void> listen(const SocketAddress& address) {
    Result<std::unique_ptr<Listener>> listener = Listener::open(
        loop_, address,
        [this](std::unique_ptr<Transport> transport) { on_accept(std::move(transport)); });
    if (!listener) return std::unexpected(std::move(listener.error()));
    listener_ = *std::move(listener);
    return {};
  }

  const SocketAddress& address() const { return listener_->address(); }
  size_t size() const { return connections_.size(); }

 private:
  void on_accept(std::unique_ptr<Transport> transport) {
    connections_.push_back(
        std::make_unique<AdminConnection>(loop_, source_, *this, std::move(transport), over_tcp_));
    if (connections_.size() >= admin_connections_max) listener_->set_paused(true);
    connections_.back()->start();
  }

  void on_connection_closed(AdminConnection& connection) override {
    const auto it =
        std::ranges::find(connections_, &connection, &std::unique_ptr<AdminConnection>::get);
    loop_.defer_delete(std::move(*it));
    connections_.erase(it);
    listener_->set_paused(false);
  }

  Loop& loop_;
  AdminSource& source_;
  const bool over_tcp_;
  std::vector<std::unique_ptr<AdminConnection>> connections_;
  std::unique_ptr<Listener> listener_;  // dies first: nothing is accepted into what is going away
};

Result<std::unique_ptr<AdminServer>> AdminServer::start(Loop& loop, const AdminOptions& options,
                                                        AdminSource source) {
  std::unique_ptr<AdminServer> server(new AdminServer(loop, std::move(source)));
  if (!options.socket_path.empty()) {
    const Result<SocketAddress> address = unix_socket_address(options.socket_path);
    if (!address) return std::unexpected(Error(address.error()).with_context("admin socket"));
    Result<std::unique_ptr<Endpoint>> opened = server->open(*address, false);
    if (!opened) return std::unexpected(std::move(opened.error()));
    server->unix_ = *std::move(opened);
  }
  if (options.listen) {
    if (!options.listen->is_loopback()) {
      return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig,
                        "admin port: " + options.listen->to_string() +
                            " can be reached from other machines; use a loopback address");
    }
    Result<std::unique_ptr<Endpoint>> opened = server->open(*options.listen, true);
    if (!opened) return std::unexpected(std::move(opened.error()));
    server->tcp_ = *std::move(opened);
  }
  return server;
}

AdminServer::AdminServer(Loop& loop, AdminSource source)
    : loop_(loop), source_(std::move(source)) {}

AdminServer::~AdminServer() = default;

std::optional<SocketAddress> AdminServer::tcp_address() const {
  if (!tcp_) return std::nullopt;
  return tcp_->address();
}

size_t AdminServer::connections() const {
  return (unix_ ? unix_->size() : 0) + (tcp_ ? tcp_->size() : 0);
}

Result<std::unique_ptr<AdminServer::Endpoint>> AdminServer::open(const SocketAddress& address,
                                                                 bool over_tcp) {
  auto endpoint = std::make_unique<Endpoint>(loop_, source_, over_tcp);
  if (Result<void> listening = endpoint->listen(address); !listening) {
    return std::unexpected(
        std::move(listening.error()).with_context(over_tcp ? "admin port" : "admin socket"));
  }
  return endpoint;
}

}  // namespace remora
