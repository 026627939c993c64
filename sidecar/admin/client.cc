#include "sidecar/admin/client.h"

#include <memory>
#include <span>
#include <utility>

#include <poll.h>
#include <sys/socket.h>

#include "sidecar/base/buffer.h"
#include "sidecar/base/handle.h"
#include "sidecar/http/codec.h"
#include "sidecar/net/socket_address.h"

namespace remora {
namespace {

class ReplyReader final : public http::CodecEvents {
 public:
  void attach(http::Codec& codec) { codec_ = &codec; }
  void on_response(http::StreamId /*id*/, http::ResponseHead head, bool end_stream) override {
    reply.status = head.status;
    done = end_stream;
  }
  void on_data(http::StreamId id, std::span<const uint8_t> bytes) override {
    reply.body.append(as_text(bytes));
    codec_->consume(id, bytes.size());
  }
  void on_trailers(http::StreamId /*id*/, ArenaPtr /*arena*/, http::HeaderMap /*map*/) override {}
  void on_end(http::StreamId /*id*/) override { done = true; }
  void on_stream_error(http::StreamId /*id*/, http::StreamErrorKind /*kind*/,
                       const Error& error) override {
    failure = error;
  }
  void on_drained(http::StreamId /*id*/) override {}

  AdminReply reply;
  bool done = false;
  std::optional<Error> failure;

 private:
  http::Codec* codec_ = nullptr;
};

class BlockingCall {
 public:
  BlockingCall(const Clock& clock, Duration timeout) : clock_(clock), end_(clock.now() + timeout) {}

  Result<void> connect(const SocketAddress& address) {
    fd_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd_) return std::unexpected(error_from_errno(errno, "socket"));
    // A Unix socket connects at once; EAGAIN means that the backlog is full.
    while (::connect(fd_.get(), address.get(), address.length()) != 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return std::unexpected(error_from_errno(errno, "connect"));
      if (clock_.now() >= end_) return timed_out();
      ::poll(nullptr, 0, backlog_retry_ms);
    }
    return {};
  }

  Result<void> send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n >= 0) {
        bytes.remove_prefix(static_cast<size_t>(n));
      } else if (errno == EAGAIN) {
        if (Result<void> ready = wait(POLLOUT); !ready) return ready;
      } else if (errno != EINTR) {
        return std::unexpected(error_from_errno(errno, "send"));
      }
    }
    return {};
  }

  // 0: the peer has ended.
  Result<size_t> receive(std::span<uint8_t> into) {
    while (true) {
      const ssize_t n = ::recv(fd_.get(), into.data(), into.size(), 0);
      if (n >= 0) return static_cast<size_t>(n);
      if (errno == EAGAIN) {
        if (Result<void> ready = wait(POLLIN); !ready) return std::unexpected(ready.error());
      } else if (errno != EINTR) {
        return std::unexpected(error_from_errno(errno, "receive"));
      }
    }
  }

 private:
  static constexpr int backlog_retry_ms = 10;

  static std::unexpected<Error> timed_out() {
    return make_error(ErrorCode::kTimeout, ErrorSource::kInternal, "no answer in time", true);
  }

  Result<void> wait(short events) {
    const int64_t left_ms = to_ms(end_ - clock_.now());
    if (left_ms <= 0) return timed_out();
    pollfd poll_fd{fd_.get(), events, 0};
    const int ready = ::poll(&poll_fd, 1, static_cast<int>(std::min<int64_t>(left_ms, 60'000)));
    if (ready < 0 && errno != EINTR) return std::unexpected(error_from_errno(errno, "poll"));
    return {};
  }

  const Clock& clock_;
  MonotonicTime end_;
  UniqueFd fd_;
};

Result<AdminReply> exchange(BlockingCall& call, http::Codec& codec, ReplyReader& reader) {
  std::string output(codec.pending_output());
  codec.wrote(output.size());
  if (Result<void> sent = call.send(output); !sent) return std::unexpected(sent.error());
  uint8_t chunk[16 * 1024];
  while (!reader.done) {
    const Result<size_t> n = call.receive(chunk);
    if (!n) return std::unexpected(n.error());
    if (*n == 0) {
      codec.receive_eof();
    } else if (Result<void> taken = codec.receive(std::span(chunk, *n)); !taken) {
      return std::unexpected(taken.error());
    }
    if (reader.failure) return std::unexpected(*reader.failure);
    if (reader.reply.body.size() > admin_reply_bytes_max) {
      return make_error(ErrorCode::kLimitExceeded, ErrorSource::kInternal,
                        "the answer is too long");
    }
    if (*n == 0 && !reader.done) {
      return make_error(ErrorCode::kReset, ErrorSource::kInternal, "the connection ended early",
                        true);
    }
  }
  return std::move(reader.reply);
}

}  // namespace

Result<AdminReply> admin_request(const std::string& socket_path, std::string_view method,
                                 std::string_view path, Duration timeout) {
  const std::string context = "admin socket " + socket_path;
  const Result<SocketAddress> address = unix_socket_address(socket_path);
  if (!address) return std::unexpected(Error(address.error()).with_context("admin socket"));
  const SystemClock clock;
  BlockingCall call(clock, timeout);
  if (Result<void> connected = call.connect(*address); !connected) {
    return std::unexpected(std::move(connected.error()).with_context(context));
  }
  ReplyReader reader;
  const auto codec = http::make_h1_codec(http::Role::kClient, reader, http::CodecLimits{});
  reader.attach(*codec);
  http::RequestHead head;
  head.method = method;
  head.scheme = "http";
  head.authority = "localhost";
  head.path = path;
  if (Result<http::StreamId> opened = codec->send_request(head, true); !opened) {
    return std::unexpected(std::move(opened.error()).with_context(context));
  }
  Result<AdminReply> reply = exchange(call, *codec, reader);
  if (!reply) return std::unexpected(std::move(reply.error()).with_context(context));
  return reply;
}

}  // namespace remora
