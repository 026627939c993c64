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

// Begins to connect; on_connected() or on_transport_error() follows, never from inside the call.
// timeout 0: the kernel's own.
std::unique_ptr<Transport> connect_socket(Loop& loop, const SocketAddress& address,
                                          Duration timeout);

}  // namespace remora
