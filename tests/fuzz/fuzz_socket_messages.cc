// The kernel's listing of sockets (health/socket_table.h): whatever the bytes, no crash, and no
// more sockets than messages.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include <linux/netlink.h>

#include "sidecar/health/socket_table.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<remora::TcpSocket> sockets;
  const auto done = remora::add_tcp_sockets(std::span(data, size), sockets);
  if (sockets.size() > size / sizeof(nlmsghdr)) std::abort();
  if (!done && done.error().message.empty()) std::abort();
  for (const remora::TcpSocket& socket : sockets) {
    if (socket.peer.to_string().empty()) std::abort();
  }
  return 0;
}
