// Where a redirected connection was meant to go. The kernel's connection tracking remembers it.
#pragma once

#include <optional>

#include "sidecar/base/error.h"
#include "sidecar/net/socket_address.h"

namespace remora {

// fd: an accepted TCP socket, IPv4, IPv6 or IPv4 on an IPv6 socket. Nothing when the connection was
// not redirected: its caller named this address itself, and whoever would pass it on to that
// address would call itself. Also nothing when the kernel has no connection tracking. Costs two
// system calls a connection. Any other refusal of the kernel is an error: then the destination is
// not known.
Result<std::optional<SocketAddress>> original_destination(int fd);

}  // namespace remora
