#include "sidecar/intercept/netlink_socket.h"

#include <cerrno>
#include <cstring>

#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/time.h>

namespace remora::intercept {
namespace {

constexpr size_t receive_bytes = 64 * 1024;
constexpr const char* without_rights =
    "; or set no rules and use the explicit modes (HTTP_PROXY, base URLs), which need none";

NetlinkStep step_of(const Transaction& transaction, uint32_t sequence) {
  if (transaction.first_rule_sequence != 0 && sequence >= transaction.first_rule_sequence) {
    return NetlinkStep::kRule;
  }
  if (transaction.first_chain_sequence != 0 && sequence >= transaction.first_chain_sequence) {
    return NetlinkStep::kChain;
  }
  return NetlinkStep::kTable;
}

const char* what_failed(NetlinkStep step) {
  switch (step) {
    case NetlinkStep::kOpen:
      return "netlink socket to netfilter";
    case NetlinkStep::kTable:
      return "table inet remora";
    case NetlinkStep::kChain:
      return "nat chain in table inet remora";
    case NetlinkStep::kRule:
      return "rule in table inet remora";
    case NetlinkStep::kRead:
      return "read the rules in force";
  }
  return "netfilter";
}

bool says_kernel_lacks_it(int err, NetlinkStep step) {
  switch (err) {
    case EPROTONOSUPPORT:
    case EAFNOSUPPORT:
    case EOPNOTSUPP:
      return true;
    case EINVAL:
      return step == NetlinkStep::kRead || step == NetlinkStep::kTable;
    case ENOENT:
      // A chain's type or a rule's expression that no module provides.
      return step == NetlinkStep::kChain || step == NetlinkStep::kRule;
    default:
      return false;
  }
}

const char* missing_module(NetlinkStep step) {
  switch (step) {
    case NetlinkStep::kChain:
      return "this kernel has no NAT for nf_tables; load nft_chain_nat and nf_nat on the node";
    case NetlinkStep::kRule:
      return "this kernel lacks a part that the rules need; load nft_redir and nf_conntrack on the "
             "node";
    default:
      return "this kernel has no nf_tables; load it on the node (modprobe nf_tables)";
  }
}

}  // namespace

Error explain(int err, NetlinkStep step, std::string_view kernel_text) {
  Error error = error_from_errno(err, what_failed(step));
  if (!kernel_text.empty()) error.message.append(" (").append(kernel_text).append(")");
  if (err == EPERM || err == EACCES) {
    error.code = ErrorCode::kPermission;
    error.message +=
        "; writing and reading redirect rules needs CAP_NET_ADMIN: add NET_ADMIN to "
        "this container's capabilities and run it as root";
    error.message += without_rights;
  } else if (says_kernel_lacks_it(err, step)) {
    error.code = ErrorCode::kUnavailable;
    error.message.append("; ").append(missing_module(step)).append(without_rights);
  } else if (err == ERESTART || err == EINTR || err == EAGAIN || err == EBUSY || err == ENOBUFS ||
             err == ENOMEM || err == ENOENT) {
    // ENOENT of a table or chain: another writer took it away in between.
    error.retryable = true;
  }
  return error;
}

Result<NetlinkSocket> NetlinkSocket::open() {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  if (!fd) return std::unexpected(explain(errno, NetlinkStep::kOpen, {}));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return std::unexpected(explain(errno, NetlinkStep::kOpen, {}));
  }
  // The forced forms pass the system's limits and need the right that the rules need anyway.
  for (const int option : {SO_SNDBUFFORCE, SO_RCVBUFFORCE}) {
    ::setsockopt(fd.get(), SOL_SOCKET, option, &netlink_buffer_bytes, sizeof netlink_buffer_bytes);
  }
  const timeval wait{.tv_sec = netlink_answer_wait_s_max, .tv_usec = 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  // Better words from newer kernels; older ones don't know the options.
  const int one = 1;
  ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one);
  ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);
  return NetlinkSocket(std::move(fd));
}

Result<void> NetlinkSocket::send(const Bytes& bytes) {
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  const ssize_t sent = ::sendto(fd_.get(), bytes.data(), bytes.size(), 0,
                                reinterpret_cast<const sockaddr*>(&kernel), sizeof kernel);
  if (sent < 0) return std::unexpected(explain(errno, NetlinkStep::kTable, {}));
  return {};
}

Result<ByteSpan> NetlinkSocket::receive() {
  buffer_.resize(receive_bytes);
  sockaddr_nl sender{};
  iovec part{.iov_base = buffer_.data(), .iov_len = buffer_.size()};
  msghdr message{};
  message.msg_name = &sender;
  message.msg_namelen = sizeof sender;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  const ssize_t received = ::recvmsg(fd_.get(), &message, 0);
  if (received < 0) return std::unexpected(explain(errno, NetlinkStep::kRead, {}));
  // Other processes may send to a netlink socket; only the kernel has port 0.
  if (sender.nl_pid != 0) return ByteSpan();
  if ((message.msg_flags & MSG_TRUNC) != 0) {
    return make_error(ErrorCode::kLimitExceeded, ErrorSource::kInternal,
                      "read the rules in force: the kernel sent a message above 64 KiB");
  }
  return ByteSpan(buffer_).first(static_cast<size_t>(received));
}

Result<void> NetlinkSocket::transact(const Transaction& transaction) {
  if (auto sent = send(transaction.bytes); !sent) return sent;
  for (size_t count = 0; count < netlink_messages_max;) {
    auto bytes = receive();
    if (!bytes) return std::unexpected(std::move(bytes.error()));
    ++count;
    while (const auto message = take_message(*bytes)) {
      ++count;
      const auto reply = parse_reply(*message);
      if (!reply) continue;
      if (reply->error != 0) {
        return std::unexpected(
            explain(reply->error, step_of(transaction, reply->sequence), reply->text));
      }
      if (reply->sequence == transaction.last_sequence) return {};
    }
  }
  return make_error(ErrorCode::kProtocol, ErrorSource::kInternal,
                    "table inet remora: the kernel did not say whether it took the rules");
}

Result<void> NetlinkSocket::ask(const Bytes& question,
                                const std::function<void(const NetlinkMessage&)>& on_message) {
  if (auto sent = send(question); !sent) return sent;
  bool interrupted = false;
  for (size_t count = 0; count < netlink_messages_max;) {
    auto bytes = receive();
    if (!bytes) return std::unexpected(std::move(bytes.error()));
    ++count;
    while (const auto message = take_message(*bytes)) {
      ++count;
      interrupted = interrupted || (message->flags & NLM_F_DUMP_INTR) != 0;
      const auto reply = parse_reply(*message);
      if (reply && reply->error != 0) {
        return std::unexpected(explain(reply->error, NetlinkStep::kRead, reply->text));
      }
      if (reply) {
        if (interrupted) return std::unexpected(explain(EINTR, NetlinkStep::kRead, {}));
        return {};
      }
      on_message(*message);
    }
  }
  return make_error(ErrorCode::kLimitExceeded, ErrorSource::kInternal,
                    "read the rules in force: more than 100,000 messages; are these the rules of a "
                    "whole node?");
}

}  // namespace remora::intercept
