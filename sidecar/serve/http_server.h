// A small HTTP/1.1 server for Remora's own endpoints: one listener, whole requests, whole answers.
// It is kept apart from the data path, so that callers of the agent can't crowd it out: it has its
// own connections_max, past which new connections wait in the kernel.
//
// Loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sidecar/net/listener.h"
#include "sidecar/net/tls.h"
#include "sidecar/serve/http_connection.h"

namespace remora {

struct HttpServerOptions {
  size_t connections_max = 16;
  // Of one client's address; one more is closed at once, so that a neighbour alone can't take them
  // all. 0: no such limit.
  size_t connections_per_source_max = 0;
  // A larger body is refused with 413.
  size_t request_body_bytes_max = 16 * 1024;
  // False: what comes within the limit is read and thrown away.
  bool keep_body = false;
  // How long a connection may wait for its next request. A client that keeps connections for longer
  // than this sometimes sends a request into the end of one, and can't repeat it.
  int keep_alive_ms_max = server_idle_ms_max;
  // What may be kept of the bodies of all connections together; past it requests get 503.
  size_t bodies_bytes_max = 16 * 1024 * 1024;
  // Set: HTTPS, each connection with what this returns at its beginning.
  std::function<std::shared_ptr<const TlsContext>()> tls = {};
};

class HttpServer final : public HttpConnectionOwner {
 public:
  // Binds and serves at once. Errors: those of Listener::open.
  static Result<std::unique_ptr<HttpServer>> start(Loop& loop, const SocketAddress& address,
                                                   const HttpServerOptions& options,
                                                   ServerHandler handler);

  // The bound address, with the real port.
  const SocketAddress& address() const { return address_; }
  // Each answer from now on ends its connection, so that callers come back to another server;
  // new connections are still taken.
  void retire();
  // Takes no new connections, closes idle ones; done is called once the last answer has gone, never
  // from inside the call. Once.
  void drain(Task done);
  size_t connections() const { return connections_.size(); }

 private:
  HttpServer(Loop& loop, const HttpServerOptions& options, ServerHandler handler)
      : loop_(loop),
        options_(options),
        handler_(std::move(handler)),
        budget_{.bytes_max = options.bodies_bytes_max} {}
  void on_accept(std::unique_ptr<Transport> transport);
  void on_connection_closed(HttpConnection& connection) override;
  void finish_drain();

  struct Open {
    std::unique_ptr<HttpConnection> connection;
    std::string source;  // address without port
  };

  Loop& loop_;
  HttpServerOptions options_;
  ServerHandler handler_;
  BodyBudget budget_;
  SocketAddress address_;
  bool retired_ = false;
  Task drained_;
  Subscription drain_end_;
  std::vector<Open> connections_;
  std::unique_ptr<Listener> listener_;  // dies first: nothing is accepted into what is going away
};

}  // namespace remora
