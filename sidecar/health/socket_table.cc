#include "sidecar/health/socket_table.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "sidecar/base/handle.h"

namespace remora {
namespace {

// The kernel fills a datagram of a listing up to 32 KiB.
constexpr size_t kDatagramBytes = 64 * 1024;
constexpr int kErrnoMax = 4095;
// It answers from memory; this is for a kernel that does not.
constexpr int kAnswerWaitMsMax = 200;
constexpr uint32_t kStates = 1U << tcp_established | 1U << tcp_syn_sent | 1U << tcp_listen;

std::unexpected<Error> cut_short() {
  return make_error(ErrorCode::kProtocol, ErrorSource::kInternal,
                    "list sockets: the kernel's message is cut short");
}

// The bytes at the front of data as a T, by copy: nothing says that they are aligned.
template <typename T>
T front_as(std::span<const uint8_t> data) {
  T value{};
  std::memcpy(&value, data.data(), std::min(sizeof value, data.size()));
  return value;
}

SocketAddress peer_of(const inet_diag_msg& message) {
  if (message.idiag_family == AF_INET6) {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = message.id.idiag_dport;
    std::memcpy(&address.sin6_addr, message.id.idiag_dst, sizeof address.sin6_addr);
    return SocketAddress(reinterpret_cast<const sockaddr*>(&address), sizeof address);
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = message.id.idiag_dport;
  std::memcpy(&address.sin_addr, message.id.idiag_dst, sizeof address.sin_addr);
  return SocketAddress(reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

// One socket: an inet_diag_msg and its attributes, of which only INET_DIAG_INFO is asked for.
Result<TcpSocket> parse_socket(std::span<const uint8_t> data) {
  if (data.size() < sizeof(inet_diag_msg)) return cut_short();
  const auto message = front_as<inet_diag_msg>(data);
  TcpSocket socket;
  socket.inode = message.idiag_inode;
  socket.local_port = ntohs(message.id.idiag_sport);
  socket.peer = peer_of(message);
  socket.facts.state = message.idiag_state;
  data = data.subspan(sizeof(inet_diag_msg));
  while (data.size() >= sizeof(rtattr)) {
    const auto head = front_as<rtattr>(data);
    if (head.rta_len < sizeof head || head.rta_len > data.size()) return cut_short();
    if (head.rta_type == INET_DIAG_INFO) {
      // Older kernels have a shorter tcp_info, newer ones a longer one.
      socket.facts =
          tcp_facts(front_as<tcp_info>(data.subspan(sizeof head, head.rta_len - sizeof head)));
    }
    data = data.subspan(std::min<size_t>(data.size(), RTA_ALIGN(head.rta_len)));
  }
  if (message.idiag_state == tcp_listen) socket.facts.backlog = message.idiag_rqueue;
  return socket;
}

Result<void> ask(int fd, uint8_t family) {
  struct {
    nlmsghdr head{};
    inet_diag_req_v2 request{};
  } wish;
  wish.head.nlmsg_len = sizeof wish;
  wish.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  wish.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  wish.request.sdiag_family = family;
  wish.request.sdiag_protocol = IPPROTO_TCP;
  wish.request.idiag_ext = 1U << (INET_DIAG_INFO - 1);
  wish.request.idiag_states = kStates;
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  const ssize_t sent = ::sendto(fd, &wish, sizeof wish, 0,
                                reinterpret_cast<const sockaddr*>(&kernel), sizeof kernel);
  if (sent < 0) return std::unexpected(error_from_errno(errno, "list sockets"));
  return {};
}

Result<void> read_listing(int fd, std::vector<uint8_t>& buffer, std::vector<TcpSocket>& sockets) {
  // The end comes: the number of sockets is limited, and each datagram has one at least.
  while (true) {
    const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return std::unexpected(error_from_errno(got == 0 ? EIO : errno, "list sockets"));
    const Result<bool> done =
        add_tcp_sockets(std::span(buffer).first(static_cast<size_t>(got)), sockets);
    if (!done) return std::unexpected(done.error());
    if (*done) return {};
  }
}

}  // namespace

TcpFacts tcp_facts(const tcp_info& info) {
  return {.state = info.tcpi_state,
          .retransmits = info.tcpi_retransmits,
          .bytes_sent = info.tcpi_bytes_sent,
          .bytes_received = info.tcpi_bytes_received,
          .last_data_sent_ms = info.tcpi_last_data_sent,
          .last_data_received_ms = info.tcpi_last_data_recv,
          .last_ack_received_ms = info.tcpi_last_ack_recv,
          .backlog = info.tcpi_state == tcp_listen ? info.tcpi_unacked : 0};
}

Result<bool> add_tcp_sockets(std::span<const uint8_t> datagram, std::vector<TcpSocket>& sockets) {
  if (datagram.size() < sizeof(nlmsghdr)) return cut_short();
  while (datagram.size() >= sizeof(nlmsghdr)) {
    const auto head = front_as<nlmsghdr>(datagram);
    if (head.nlmsg_len < sizeof head || head.nlmsg_len > datagram.size()) return cut_short();
    const auto body = datagram.subspan(sizeof head, head.nlmsg_len - sizeof head);
    if (head.nlmsg_type == NLMSG_DONE) return true;
    if (head.nlmsg_type == NLMSG_ERROR) {
      if (body.size() < sizeof(nlmsgerr)) return cut_short();
      const int error = front_as<nlmsgerr>(body).error;
      return std::unexpected(
          error_from_errno(error < 0 && error >= -kErrnoMax ? -error : EIO, "list sockets"));
    }
    if (head.nlmsg_type == SOCK_DIAG_BY_FAMILY) {
      if (sockets.size() >= sockets_listed_max) {
        return make_error(ErrorCode::kLimitExceeded, ErrorSource::kInternal,
                          "list sockets: more than " + std::to_string(sockets_listed_max));
      }
      Result<TcpSocket> socket = parse_socket(body);
      if (!socket) return std::unexpected(std::move(socket.error()));
      sockets.push_back(std::move(*socket));
    }
    datagram = datagram.subspan(std::min<size_t>(datagram.size(), NLMSG_ALIGN(head.nlmsg_len)));
  }
  return false;
}

Result<std::vector<TcpSocket>> list_tcp_sockets() {
  const UniqueFd fd(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!fd) return std::unexpected(error_from_errno(errno, "list sockets"));
  const timeval wait{.tv_sec = 0, .tv_usec = kAnswerWaitMsMax * 1000};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  std::vector<uint8_t> buffer(kDatagramBytes);
  std::vector<TcpSocket> sockets;
  for (const int family : {AF_INET, AF_INET6}) {
    Result<void> listed = ask(fd.get(), static_cast<uint8_t>(family));
    if (listed) listed = read_listing(fd.get(), buffer, sockets);
    if (!listed) return std::unexpected(std::move(listed.error()));
  }
  return sockets;
}

}  // namespace remora
