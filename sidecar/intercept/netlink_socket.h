// A netlink socket to nf_tables in the network namespace of the calling thread. Blocking: the
// kernel does a transaction inside the call, waiting for one that another process has under way.
#pragma once

#include <functional>

#include "sidecar/base/error.h"
#include "sidecar/base/handle.h"
#include "sidecar/intercept/nft_message.h"

namespace remora::intercept {

// The kernel answers before send() returns, so this only bounds a kernel that never does.
inline constexpr int netlink_answer_wait_s_max = 10;
// More than the largest transaction and than its answers (measured: 0.3 KB a rule).
inline constexpr int netlink_buffer_bytes = 2 * 1024 * 1024;
inline constexpr size_t netlink_messages_max = 100'000;

class NetlinkSocket {
 public:
  static Result<NetlinkSocket> open();

  // Done as a whole, or an error and nothing changed. retryable: the same may work in a moment.
  Result<void> transact(const Transaction& transaction);
  // Asks, and gives each message of the answer to on_message. kNotFound when the kernel says that
  // there is no such thing; retryable when the tables changed while they were read.
  Result<void> ask(const Bytes& question,
                   const std::function<void(const NetlinkMessage&)>& on_message);

 private:
  explicit NetlinkSocket(UniqueFd fd) : fd_(std::move(fd)) {}
  Result<void> send(const Bytes& bytes);
  Result<ByteSpan> receive();

  UniqueFd fd_;
  Bytes buffer_;
};

// What failed, for the words of the error.
enum class NetlinkStep { kOpen, kTable, kChain, kRule, kRead };

// Says what the reader should do about a refusal of the kernel.
Error explain(int err, NetlinkStep step, std::string_view kernel_text);

}  // namespace remora::intercept
