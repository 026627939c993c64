#include "sidecar/admin/server.h"

#include <utility>

#include "sidecar/admin/endpoints.h"

namespace remora {

Result<std::unique_ptr<AdminServer>> AdminServer::start(Loop& loop, const AdminOptions& options,
                                                        AdminSource source) {
  std::unique_ptr<AdminServer> server(new AdminServer(std::move(source)));
  if (!options.socket_path.empty()) {
    const Result<SocketAddress> address = unix_socket_address(options.socket_path);
    if (!address) return std::unexpected(Error(address.error()).with_context("admin socket"));
    Result<std::unique_ptr<HttpServer>> opened = server->open(loop, *address, false);
    if (!opened) return std::unexpected(std::move(opened.error()).with_context("admin socket"));
    server->unix_ = *std::move(opened);
  }
  if (options.listen) {
    if (!options.listen->is_loopback()) {
      return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig,
                        "admin port: " + options.listen->to_string() +
                            " can be reached from other machines; use a loopback address");
    }
    Result<std::unique_ptr<HttpServer>> opened = server->open(loop, *options.listen, true);
    if (!opened) return std::unexpected(std::move(opened.error()).with_context("admin port"));
    server->tcp_ = *std::move(opened);
  }
  return server;
}

std::optional<SocketAddress> AdminServer::tcp_address() const {
  if (!tcp_) return std::nullopt;
  return tcp_->address();
}

size_t AdminServer::connections() const {
  return (unix_ ? unix_->connections() : 0) + (tcp_ ? tcp_->connections() : 0);
}

Result<std::unique_ptr<HttpServer>> AdminServer::open(Loop& loop, const SocketAddress& address,
                                                      bool over_tcp) {
  const HttpServerOptions options{.connections_max = admin_connections_max,
                                  .request_body_bytes_max = admin_request_body_bytes_max};
  return HttpServer::start(loop, address, options,
                           [this, over_tcp](const ServerRequest& request, ServerRespond respond) {
                             answer_admin_request(
                                 source_, {request.method, request.path, request.host, over_tcp},
                                 std::move(respond));
                           });
}

}  // namespace remora
