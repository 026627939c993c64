// Sockets of the benchmark programs: IPv4 loopback only, so that a slip in a port number never
// sends load to another machine. Independent of sidecar/net, whose cost is what is measured.
#pragma once

#include <cerrno>
#include <cstdint>
#include <string>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "sidecar/base/error.h"
#include "sidecar/base/handle.h"

namespace remora::bench {

inline constexpr int listen_backlog_max = 1024;

inline sockaddr_in loopback_address(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

inline void set_no_delay(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// A non-blocking listener on 127.0.0.1:port.
inline Result<UniqueFd> listen_loopback(uint16_t port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return std::unexpected(error_from_errno(errno, "socket"));
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const sockaddr_in address = loopback_address(port);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(fd.get(), listen_backlog_max) != 0) {
    return std::unexpected(error_from_errno(errno, "listen on 127.0.0.1:" + std::to_string(port)));
  }
  return fd;
}

// A connected, then non-blocking, socket to 127.0.0.1:port. Blocks only for the loopback handshake.
inline Result<UniqueFd> connect_loopback(uint16_t port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return std::unexpected(error_from_errno(errno, "socket"));
  const sockaddr_in address = loopback_address(port);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return std::unexpected(error_from_errno(errno, "connect to 127.0.0.1:" + std::to_string(port)));
  }
  set_no_delay(fd.get());
  return fd;
}

inline Result<UniqueFd> make_epoll() {
  UniqueFd fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!fd) return std::unexpected(error_from_errno(errno, "epoll_create1"));
  return fd;
}

inline void watch(int epoll_fd, int operation, int fd, uint32_t events, void* owner) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = owner;
  ::epoll_ctl(epoll_fd, operation, fd, &event);
}

inline bool would_block(int err) { return err == EAGAIN || err == EWOULDBLOCK; }

}  // namespace remora::bench
