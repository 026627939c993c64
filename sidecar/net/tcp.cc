#include "sidecar/net/tcp.h"

#include <array>
#include <cerrno>
#include <utility>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace remora {
namespace {

std::span<uint8_t> read_buffer() {
  static thread_local std::array<uint8_t, read_chunk_bytes_max> bytes;
  return bytes;
}

void set_no_delay(int fd) {
  const int one = 1;
  // Fails on Unix sockets, where it has no meaning.
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

bool set_priority(int fd, int priority) {
  return priority == 0 ||
         ::setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &priority, sizeof priority) == 0;
}

class SocketTransport final : public Transport {
 public:
  SocketTransport(Loop& loop, UniqueFd fd, std::string peer)
      : loop_(loop), fd_(std::move(fd)), peer_(std::move(peer)) {}

  // For a socket whose connect has been begun (error 0 or EINPROGRESS) or has failed already.
  void set_connecting(Duration timeout, int error) {
    connecting_ = true;
    connect_timeout_ = timeout;
    connect_error_ = error == EINPROGRESS ? 0 : error;
  }

  void start(TransportEvents& events) override {
    events_ = &events;
    if (connect_error_ != 0) {
      timer_ = loop_.add_timer(Duration{}, [this] { fail_connect(connect_error_); });
      return;
    }
    watch_ = loop_.watch_fd(fd_.get(), connecting_ ? FdEvents::kWrite : FdEvents::kRead,
                            [this](FdEvents what) { on_event(what); });
    if (connecting_ && connect_timeout_ > Duration{}) {
      timer_ = loop_.add_timer(connect_timeout_, [this] { fail_connect(ETIMEDOUT); });
    }
  }

  void set_events(TransportEvents& events) override { events_ = &events; }

  Result<size_t> write(std::span<const uint8_t> bytes) override {
    size_t taken = 0;
    while (taken < bytes.size()) {
      const ssize_t n = ::send(fd_.get(), bytes.data() + taken, bytes.size() - taken,
                               MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n >= 0) {
        taken += static_cast<size_t>(n);
        // A short count means a full socket buffer: asking again would only return EAGAIN.
        if (taken < bytes.size()) break;
      } else if (errno == EAGAIN) {
        break;
      } else if (errno != EINTR) {
        return std::unexpected(error_from_errno(errno, "send to " + peer_));
      }
    }
    if (taken < bytes.size() && !write_armed_) {
      write_armed_ = true;
      update_watch();
    }
    return taken;
  }

  void set_read_paused(bool paused) override {
    if (paused == read_paused_) return;
    read_paused_ = paused;
    if (!connecting_) update_watch();
  }

  void shutdown_write() override { ::shutdown(fd_.get(), SHUT_WR); }
  bool has_unread() const override {
    uint8_t byte = 0;
    return !connecting_ && ::recv(fd_.get(), &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT) > 0;
  }
  const std::string& peer_address() const override { return peer_; }

 private:
  void update_watch() {
    const bool read = !read_paused_ && !read_ended_;
    watch_->set_events(static_cast<FdEvents>((read ? 1 : 0) | (write_armed_ ? 2 : 0)));
  }

  void on_event(FdEvents what) {
    if (connecting_) {
      finish_connect();
    } else if (has_read(what)) {
      read_some();
    } else {
      write_armed_ = false;
      update_watch();
      events_->on_writable();
    }
  }

  void finish_connect() {
    int error = 0;
    socklen_t length = sizeof error;
    ::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) {
      fail_connect(error);
      return;
    }
    connecting_ = false;
    timer_.cancel();
    set_no_delay(fd_.get());
    update_watch();
    events_->on_connected();
  }

  void fail_connect(int error) {
    watch_.reset();
    timer_.cancel();
    Error failure = error_from_errno(error, "connect to " + peer_, ErrorSource::kUpstream);
    failure.retryable = true;
    events_->on_transport_error(failure);
  }

  void read_some() {
    // The watch may have been switched off earlier in this batch of events.
    if (read_paused_ || read_ended_) return;
    const std::span<uint8_t> buffer = read_buffer();
    const ssize_t n = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n > 0) {
      events_->on_read(buffer.first(static_cast<size_t>(n)));
    } else if (n == 0) {
      read_ended_ = true;
      update_watch();
      events_->on_read_eof();
    } else if (errno != EAGAIN && errno != EINTR) {
      read_ended_ = true;
      write_armed_ = false;
      update_watch();
      events_->on_transport_error(error_from_errno(errno, "receive from " + peer_));
    }
  }

  Loop& loop_;
  UniqueFd fd_;
  std::string peer_;
  TransportEvents* events_ = nullptr;
  bool connecting_ = false;
  bool read_paused_ = false;
  bool read_ended_ = false;
  bool write_armed_ = false;
  int connect_error_ = 0;
  Duration connect_timeout_{};
  Subscription timer_;
  std::unique_ptr<FdWatch> watch_;
};

}  // namespace

std::unique_ptr<Transport> adopt_socket(Loop& loop, UniqueFd fd, std::string peer_address) {
  set_no_delay(fd.get());
  return std::make_unique<SocketTransport>(loop, std::move(fd), std::move(peer_address));
}

std::unique_ptr<Transport> connect_socket(Loop& loop, const SocketAddress& address,
                                          Duration timeout, int socket_priority) {
  UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  int error = 0;
  if (!fd || !set_priority(fd.get(), socket_priority) ||
      ::connect(fd.get(), address.get(), address.length()) != 0) {
    error = errno;
  }
  auto transport = std::make_unique<SocketTransport>(loop, std::move(fd), address.to_string());
  transport->set_connecting(timeout, error);
  return transport;
}

}  // namespace remora
