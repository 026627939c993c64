// An IP address with a port, or the path of a Unix socket. Names are not resolved here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <sys/socket.h>

#include "sidecar/base/error.h"

namespace remora {

class SocketAddress {
 public:
  SocketAddress() = default;
  SocketAddress(const sockaddr* address, socklen_t length);

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t length() const { return length_; }
  int family() const { return storage_.ss_family; }
  bool is_loopback() const;
  uint16_t port() const;  // 0 for Unix sockets
  // "127.0.0.1:80", "[::1]:80", "unix:/run/x.sock"
  std::string to_string() const;

 private:
  sockaddr_storage storage_{};
  socklen_t length_ = 0;
};

// "127.0.0.1:80", "[::1]:80", ":80" (every address), "localhost:80" (127.0.0.1).
// kInvalidArgument names what is wrong with the text.
Result<SocketAddress> parse_socket_address(std::string_view text);
// An IPv4 or IPv6 address or "localhost", and a port.
Result<SocketAddress> make_socket_address(std::string_view host, uint16_t port);
// kInvalidArgument when the path is empty or longer than sockaddr_un takes (107 bytes).
Result<SocketAddress> unix_socket_address(std::string_view path);
// What a bound socket is really bound to (port 0 resolved).
Result<SocketAddress> local_address(int fd);

}  // namespace remora
