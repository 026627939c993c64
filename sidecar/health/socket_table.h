// The TCP sockets of our own network namespace, as the kernel lists them to anybody (sock_diag(7)).
// For where a process's descriptors may not be copied: a container runtime's default seccomp
// profile refuses pidfd_getfd to all without CAP_SYS_PTRACE.
//
// Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "sidecar/base/error.h"
#include "sidecar/net/socket_address.h"

struct tcp_info;  // linux/tcp.h, or netinet/tcp.h: they exclude each other

namespace remora {

// What of tcp_info (tcp(7)) tells what a connection is about.
struct TcpFacts {
  uint8_t state = 0;
  uint32_t retransmits = 0;
  uint64_t bytes_sent = 0;
  uint64_t bytes_received = 0;
  uint32_t last_data_sent_ms = 0;  // ago, as the others
  uint32_t last_data_received_ms = 0;
  uint32_t last_ack_received_ms = 0;
  uint32_t backlog = 0;  // of one that listens: connections that wait to be accepted
};
inline constexpr uint8_t tcp_established = 1;
inline constexpr uint8_t tcp_syn_sent = 2;
inline constexpr uint8_t tcp_listen = 10;

TcpFacts tcp_facts(const tcp_info& info);

struct TcpSocket {
  uint64_t inode = 0;  // "socket:[INODE]" in /proc/PID/fd
  uint16_t local_port = 0;
  SocketAddress peer;  // of one that listens: nobody
  TcpFacts facts;
};

// A longer listing is an error: what is left out might be the call that matters.
inline constexpr size_t sockets_listed_max = 16'384;

// Established, connecting and listening sockets, IPv4 and IPv6.
Result<std::vector<TcpSocket>> list_tcp_sockets();

// Adds the sockets of one datagram of a listing; true when the listing ends in it. An error that
// the kernel reports, or kProtocol for a message that is cut short.
Result<bool> add_tcp_sockets(std::span<const uint8_t> datagram, std::vector<TcpSocket>& sockets);

}  // namespace remora
