#include "sidecar/net/socket_address.h"

#include <charconv>
#include <cstddef>
#include <cstring>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

namespace remora {
namespace {

Error invalid(std::string_view text, std::string_view why) {
  std::string message = "address \"";
  message.append(text).append("\": ").append(why);
  return {ErrorCode::kInvalidArgument, ErrorSource::kConfig, false, std::move(message)};
}

}  // namespace

SocketAddress::SocketAddress(const sockaddr* address, socklen_t length) : length_(length) {
  std::memcpy(&storage_, address, length);
}

bool SocketAddress::is_loopback() const {
  if (family() == AF_UNIX) return true;
  if (family() == AF_INET) {
    const auto* in = reinterpret_cast<const sockaddr_in*>(&storage_);
    return (ntohl(in->sin_addr.s_addr) >> 24) == 127;
  }
  if (family() == AF_INET6) {
    return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_addr);
  }
  return false;
}

uint16_t SocketAddress::port() const {
  if (family() == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in*>(&storage_)->sin_port);
  if (family() == AF_INET6) {
    return ntohs(reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_port);
  }
  return 0;
}

std::string SocketAddress::to_string() const {
  char text[INET6_ADDRSTRLEN] = {};
  if (family() == AF_INET) {
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(&storage_)->sin_addr, text,
              sizeof text);
    return std::string(text) + ":" + std::to_string(port());
  }
  if (family() == AF_INET6) {
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_addr, text,
              sizeof text);
    return "[" + std::string(text) + "]:" + std::to_string(port());
  }
  if (family() == AF_UNIX && length_ > offsetof(sockaddr_un, sun_path)) {
    return std::string("unix:") + reinterpret_cast<const sockaddr_un*>(&storage_)->sun_path;
  }
  return "unix:";
}

Result<SocketAddress> make_socket_address(std::string_view host, uint16_t port) {
  if (host.contains('\0')) return std::unexpected(invalid(host, "not an IP address"));
  const std::string name(host == "localhost" ? "127.0.0.1" : host);
  sockaddr_in in{};
  if (inet_pton(AF_INET, name.c_str(), &in.sin_addr) == 1) {
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    return SocketAddress(reinterpret_cast<const sockaddr*>(&in), sizeof in);
  }
  sockaddr_in6 in6{};
  if (inet_pton(AF_INET6, name.c_str(), &in6.sin6_addr) == 1) {
    in6.sin6_family = AF_INET6;
    in6.sin6_port = htons(port);
    return SocketAddress(reinterpret_cast<const sockaddr*>(&in6), sizeof in6);
  }
  return std::unexpected(invalid(host, "not an IP address; write one, such as 127.0.0.1 or ::1"));
}

Result<SocketAddress> parse_socket_address(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return std::unexpected(invalid(text, "no port; write ADDRESS:PORT, such as 127.0.0.1:8080"));
  }
  std::string_view host = text.substr(0, colon);
  const std::string_view port_text = text.substr(colon + 1);
  uint16_t port = 0;
  const auto [end, error] =
      std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (port_text.empty() || error != std::errc{} || end != port_text.data() + port_text.size()) {
    return std::unexpected(invalid(text, "the port must be a number from 0 to 65535"));
  }
  if (host.empty()) return make_socket_address("0.0.0.0", port);
  if (host.front() == '[' && host.back() == ']' && host.size() > 2) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return std::unexpected(invalid(text, "put an IPv6 address in brackets: [::1]:8080"));
  }
  return make_socket_address(host, port);
}

Result<SocketAddress> unix_socket_address(std::string_view path) {
  sockaddr_un un{};
  if (path.empty() || path.size() >= sizeof un.sun_path || path.contains('\0')) {
    return std::unexpected(
        invalid(path, "a Unix socket's path has 1 to 107 bytes, none of them NUL; shorten it"));
  }
  un.sun_family = AF_UNIX;
  std::memcpy(un.sun_path, path.data(), path.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  return SocketAddress(reinterpret_cast<const sockaddr*>(&un), length);
}

Result<SocketAddress> local_address(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) {
    return std::unexpected(error_from_errno(errno, "getsockname"));
  }
  return SocketAddress(reinterpret_cast<const sockaddr*>(&storage), length);
}

}  // namespace remora
