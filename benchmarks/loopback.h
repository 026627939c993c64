// Sockets of the benchmark programs: the IPv4 loopback address unless another one is named, so that
// a slip in a port number never sends load to another machine. Independent of sidecar/net, whose
// cost is what is measured.
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

inline constexpr const char* loopback_host = "127.0.0.1";

inline Result<sockaddr_in> address_of(uint16_t port, const std::string& host) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (::inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) {
    return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig,
                      host + " is no IPv4 address");
  }
  return address;
}

inline void set_no_delay(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// A non-blocking listener.
inline Result<UniqueFd> listen_on(uint16_t port, const std::string& host = loopback_host) {
  const Result<sockaddr_in> address = address_of(port, host);
  if (!address) return std::unexpected(address.error());
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return std::unexpected(error_from_errno(errno, "socket"));
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0 ||
      ::listen(fd.get(), listen_backlog_max) != 0) {
    return std::unexpected(
        error_from_errno(errno, "listen on " + host + ":" + std::to_string(port)));
  }
  return fd;
}

// A connected socket. Blocks for the handshake.
inline Result<UniqueFd> connect_to(uint16_t port, const std::string& host = loopback_host) {
  const Result<sockaddr_in> address = address_of(port, host);
  if (!address) return std::unexpected(address.error());
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return std::unexpected(error_from_errno(errno, "socket"));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0) {
    return std::unexpected(
        error_from_errno(errno, "connect to " + host + ":" + std::to_string(port)));
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
