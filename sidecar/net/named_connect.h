// A connection to a server that is known by its name: looked up each time, each of its addresses
// tried in turn, TLS on top where it is wanted. To its owner one Transport like any other: it is
// connected once all of that is done.
//
// Loop thread only.
#pragma once

#include <memory>
#include <string>

#include "sidecar/net/event_loop.h"
#include "sidecar/net/resolver.h"
#include "sidecar/net/tls.h"
#include "sidecar/net/transport.h"

namespace remora {

struct NamedServer {
  std::string host;  // a name or an IP address
  uint16_t port = 0;
  std::shared_ptr<const TlsContext> tls;  // none: plain
  // For all of it together, and for one address at most half of that.
  Duration connect_timeout = std::chrono::seconds(10);
  int socket_priority = 0;  // see connect_socket
};

// on_connected() or on_transport_error() follows start(). resolver must outlive it; null where host
// is an address.
std::unique_ptr<Transport> connect_by_name(EventLoop& loop, Resolver* resolver, NamedServer server);

// host is an IP address, so that nobody has to be asked.
bool is_address(const std::string& host);

}  // namespace remora
