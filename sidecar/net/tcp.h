// Transports over stream sockets: TCP and Unix.
#pragma once

#include <memory>
#include <string>

#include "sidecar/base/handle.h"
#include "sidecar/net/loop.h"
#include "sidecar/net/socket_address.h"
#include "sidecar/net/transport.h"

namespace remora {

// Bytes taken from a socket in one read. One buffer of this size serves the whole thread: a read
// never happens inside another read's callback.
inline constexpr size_t read_chunk_bytes_max = 64 * 1024;

// Wraps a connected, non-blocking socket. An owner must not destroy a transport from inside one of
// its events: hand the owner to Loop::defer_delete.
std::unique_ptr<Transport> adopt_socket(Loop& loop, UniqueFd fd, std::string peer_address);

// SO_PRIORITY of the sidecar's own connections where traffic is redirected: the rules let them
// pass (sidecar/intercept/ruleset.cc). Needs no capability (6 and below), and no IP_TOS leads to
// it.
inline constexpr int own_socket_priority = 5;

// Begins to connect; on_connected() or on_transport_error() follows, never from inside the call.
// timeout 0: the kernel's own. socket_priority 0: the kernel's own, without a system call; when
// another can't be set the connect fails, for it would come back to the sidecar.
std::unique_ptr<Transport> connect_socket(Loop& loop, const SocketAddress& address,
                                          Duration timeout, int socket_priority = 0);

}  // namespace remora
