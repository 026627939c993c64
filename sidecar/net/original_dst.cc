#include "sidecar/net/original_dst.h"

#include <cerrno>
#include <cstring>

#include <netinet/in.h>
#include <sys/socket.h>

namespace remora {
namespace {

// SO_ORIGINAL_DST of linux/netfilter_ipv4.h, and IP6T_SO_ORIGINAL_DST of
// linux/netfilter_ipv6/ip6_tables.h: headers that don't go together with the C library's.
constexpr int original_destination_option = 80;

const sockaddr_in& as_v4(const SocketAddress& address) {
  return *reinterpret_cast<const sockaddr_in*>(address.get());
}
const sockaddr_in6& as_v6(const SocketAddress& address) {
  return *reinterpret_cast<const sockaddr_in6*>(address.get());
}

// An IPv4 connection that an IPv6 socket accepted is an IPv4 connection to the kernel's tables.
SocketAddress unmapped(const SocketAddress& address) {
  if (address.family() != AF_INET6) return address;
  const sockaddr_in6& mapped = as_v6(address);
  if (!IN6_IS_ADDR_V4MAPPED(&mapped.sin6_addr)) return address;
  sockaddr_in plain{};
  plain.sin_family = AF_INET;
  plain.sin_port = mapped.sin6_port;
  std::memcpy(&plain.sin_addr, &mapped.sin6_addr.s6_addr[12], sizeof plain.sin_addr);
  return {reinterpret_cast<const sockaddr*>(&plain), sizeof plain};
}

bool is_same(const SocketAddress& a, const SocketAddress& b) {
  if (a.family() != b.family() || a.port() != b.port()) return false;
  if (a.family() == AF_INET) return as_v4(a).sin_addr.s_addr == as_v4(b).sin_addr.s_addr;
  return std::memcmp(&as_v6(a).sin6_addr, &as_v6(b).sin6_addr, sizeof(in6_addr)) == 0;
}

}  // namespace

Result<std::optional<SocketAddress>> original_destination(int fd) {
  auto bound = local_address(fd);
  if (!bound) return std::unexpected(std::move(bound.error()));
  const SocketAddress local = unmapped(*bound);
  if (local.family() != AF_INET && local.family() != AF_INET6) return std::nullopt;
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  const int level = local.family() == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
  if (::getsockopt(fd, level, original_destination_option, &storage, &length) != 0) {
    // No entry for this connection, and no connection tracking at all.
    if (errno == ENOENT || errno == ENOPROTOOPT) return std::nullopt;
    return std::unexpected(error_from_errno(errno, "original destination of a connection"));
  }
  const SocketAddress original(reinterpret_cast<const sockaddr*>(&storage), length);
  if (is_same(original, local)) return std::nullopt;
  return original;
}

}  // namespace remora
