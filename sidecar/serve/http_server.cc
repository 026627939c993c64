#include "sidecar/serve/http_server.h"

#include <algorithm>
#include <utility>

namespace remora {

Result<std::unique_ptr<HttpServer>> HttpServer::start(Loop& loop, const SocketAddress& address,
                                                      const HttpServerOptions& options,
                                                      ServerHandler handler) {
  std::unique_ptr<HttpServer> server(new HttpServer(loop, options, std::move(handler)));
  Result<std::unique_ptr<Listener>> listener =
      Listener::open(loop, address, [self = server.get()](std::unique_ptr<Transport> transport) {
        self->on_accept(std::move(transport));
      });
  if (!listener) return std::unexpected(std::move(listener.error()));
  server->listener_ = *std::move(listener);
  server->address_ = server->listener_->address();
  return server;
}

void HttpServer::on_accept(std::unique_ptr<Transport> transport) {
  const std::string& peer = transport->peer_address();
  std::string source = peer.substr(0, peer.rfind(':'));
  if (options_.connections_per_source_max > 0 &&
      static_cast<size_t>(std::ranges::count(connections_, source, &Open::source)) >=
          options_.connections_per_source_max) {
    return;
  }
  if (options_.tls) transport = wrap_tls_server(loop_, options_.tls(), std::move(transport));
  auto made = std::make_unique<HttpConnection>(
      loop_, handler_, *this, budget_, std::move(transport),
      HttpConnectionOptions{options_.request_body_bytes_max, options_.keep_body,
                            options_.keep_alive_ms_max});
  HttpConnection& connection = *made;
  connections_.push_back({std::move(made), std::move(source)});
  if (connections_.size() >= options_.connections_max) listener_->set_paused(true);
  if (retired_) connection.retire();
  connection.start();
}

void HttpServer::on_connection_closed(HttpConnection& connection) {
  const auto it = std::ranges::find(connections_, &connection,
                                    [](const Open& open) { return open.connection.get(); });
  loop_.defer_delete(std::move(it->connection));
  connections_.erase(it);
  if (listener_) listener_->set_paused(false);
  finish_drain();
}

void HttpServer::retire() {
  retired_ = true;
  for (const Open& open : connections_) open.connection->retire();
}

void HttpServer::drain(Task done) {
  listener_.reset();
  drained_ = std::move(done);
  for (const Open& open : connections_) open.connection->drain();
  finish_drain();
}

void HttpServer::finish_drain() {
  if (!drained_ || !connections_.empty()) return;
  drain_end_ = loop_.add_timer({}, std::exchange(drained_, nullptr));
}

}  // namespace remora
