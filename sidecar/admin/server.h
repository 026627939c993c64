// The admin server: a Unix socket with everything, and optionally a loopback TCP port with what
// scrapers and health checks need (/healthz, /readyz, /metrics).
//
// The socket's mode is 0600: only the user that runs Remora, and root, may drain it or read its
// configuration. Each of the two listeners has its own admin_connections_max, so that clients of
// the port can't lock out the socket; past it new connections wait in the kernel.
//
// Loop thread only.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "sidecar/admin/source.h"
#include "sidecar/base/error.h"
#include "sidecar/net/loop.h"
#include "sidecar/net/socket_address.h"
#include "sidecar/serve/http_server.h"

namespace remora {

inline constexpr size_t admin_connections_max = 16;
// No endpoint takes a body; a small one is read and ignored, a larger one is refused.
inline constexpr size_t admin_request_body_bytes_max = 16 * 1024;

struct AdminOptions {
  std::string socket_path;              // empty: no socket
  std::optional<SocketAddress> listen;  // must be loopback
};

class AdminServer {
 public:
  // Binds and serves at once. Errors name the socket or port: kAlreadyExists when another process
  // listens there, kInvalidArgument for a path longer than 107 bytes or an address that is not
  // loopback. source must have all functions but those it may leave empty.
  static Result<std::unique_ptr<AdminServer>> start(Loop& loop, const AdminOptions& options,
                                                    AdminSource source);
  // Closes everything; the socket's file is removed.
  ~AdminServer() = default;
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  // The bound TCP address with its real port; none without one.
  std::optional<SocketAddress> tcp_address() const;
  size_t connections() const;

 private:
  explicit AdminServer(AdminSource source) : source_(std::move(source)) {}
  Result<std::unique_ptr<HttpServer>> open(Loop& loop, const SocketAddress& address, bool over_tcp);

  AdminSource source_;
  std::unique_ptr<HttpServer> unix_;
  std::unique_ptr<HttpServer> tcp_;
};

}  // namespace remora
