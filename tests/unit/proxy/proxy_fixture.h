// A real ProxyServer on loopback sockets, between a caller and an agent that the test plays itself,
// byte by byte. The proxy runs in a thread of its own; every wait has a limit, so that a failure is
// a failed expectation and not a hang.
#pragma once

#include <future>
#include <memory>
#include <string>
#include <thread>

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "filters/registry.h"
#include "sidecar/net/event_loop.h"
#include "sidecar/proxy/proxy_server.h"

namespace remora::test {

inline constexpr int wait_ms_max = 5000;

// A blocking socket with limits on every wait.
class Peer {
 public:
  explicit Peer(int fd) : fd_(fd) {}

  static Peer connect(const SocketAddress& address) {
    const int fd = ::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::connect(fd, address.get(), address.length()), 0);
    return Peer(fd);
  }

  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      ASSERT_GT(n, 0);
      bytes.remove_prefix(static_cast<size_t>(n));
    }
  }
  // How much fits without blocking: what the other side is willing to hold.
  size_t send_until_full(size_t bytes_max) {
    const std::string block(64 * 1024, 'x');
    size_t sent = 0;
    while (sent < bytes_max) {
      pollfd p{fd_.get(), POLLOUT, 0};
      if (::poll(&p, 1, 300) <= 0) break;
      const ssize_t n = ::send(fd_.get(), block.data(), block.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n <= 0) break;
      sent += static_cast<size_t>(n);
    }
    return sent;
  }
  // Reads until the text has come (returning all so far and keeping what follows), or fails.
  std::string read_until(std::string_view text) {
    size_t at = std::string::npos;
    while ((at = buffer_.find(text)) == std::string::npos) {
      if (!fill()) {
        ADD_FAILURE() << "did not see \"" << text << "\" in \"" << buffer_.substr(0, 2000) << '"';
        return std::exchange(buffer_, {});
      }
    }
    std::string head = buffer_.substr(0, at + text.size());
    buffer_.erase(0, head.size());
    return head;
  }
  std::string read_bytes(size_t n) {
    while (buffer_.size() < n) {
      if (!fill()) {
        ADD_FAILURE() << "wanted " << n << " bytes, got " << buffer_.size();
        break;
      }
    }
    std::string bytes = buffer_.substr(0, n);
    buffer_.erase(0, bytes.size());
    return bytes;
  }
  std::string read_head() { return read_until("\r\n\r\n"); }
  // Everything until the other side closes.
  std::string read_all() {
    while (fill()) {
    }
    EXPECT_TRUE(eof_) << "the connection was not closed";
    return std::exchange(buffer_, {});
  }
  // The end that read_all() has seen was a TCP reset.
  bool was_reset() const { return reset_; }
  bool is_silent_for(int ms) {
    pollfd p{fd_.get(), POLLIN, 0};
    return buffer_.empty() && ::poll(&p, 1, ms) == 0;
  }
  void shutdown_write() { ::shutdown(fd_.get(), SHUT_WR); }
  void close() { fd_.reset(); }
  // Closes with RST, as a killed process with unread data does.
  void reset() {
    const linger hard{1, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    fd_.reset();
  }

 private:
  bool fill() {
    pollfd p{fd_.get(), POLLIN, 0};
    if (::poll(&p, 1, wait_ms_max) <= 0) return false;
    char bytes[16384];
    const ssize_t n = ::recv(fd_.get(), bytes, sizeof bytes, 0);
    if (n <= 0) {
      eof_ = true;
      reset_ = n < 0;
      return false;
    }
    buffer_.append(bytes, static_cast<size_t>(n));
    return true;
  }

  UniqueFd fd_;
  std::string buffer_;
  bool eof_ = false;
  bool reset_ = false;
};

// A listening socket whose other end the test plays. The port stays the same when the agent "dies"
// and "comes back".
class Agent {
 public:
  Agent() { listen(0); }
  SocketAddress address() const { return address_; }
  Peer accept() {
    pollfd p{fd_.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&p, 1, wait_ms_max), 1) << "no connection to the agent";
    return Peer(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  bool nobody_connects_for(int ms) {
    pollfd p{fd_.get(), POLLIN, 0};
    return ::poll(&p, 1, ms) == 0;
  }
  void die() { fd_.reset(); }
  void come_back() { listen(address_.port()); }

 private:
  void listen(uint16_t port) {
    fd_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int one = 1;
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    const SocketAddress wanted = *make_socket_address("127.0.0.1", port);
    ASSERT_EQ(::bind(fd_.get(), wanted.get(), wanted.length()), 0);
    ASSERT_EQ(::listen(fd_.get(), 64), 0);
    address_ = *local_address(fd_.get());
  }
  UniqueFd fd_;
  SocketAddress address_;
};

class RecordingObserver final : public RequestObserver {
 public:
  void on_request_finished(const ExchangeInfo& info) override { finished.push_back(info); }
  std::vector<ExchangeInfo> finished;
};

class ProxyTest : public testing::Test {
 protected:
  ~ProxyTest() override { stop(); }
  ProxyTest() = default;
  ProxyTest(const ProxyTest&) = delete;
  ProxyTest& operator=(const ProxyTest&) = delete;

  // Call once, after changing options.
  void start() {
    options.name = "inbound";
    options.listen = *parse_socket_address("127.0.0.1:0");
    options.upstream.address = agent.address();
    std::promise<void> ready;
    thread_ = std::thread([this, &ready] {
      auto started =
          ProxyServer::start(loop_, gate, options, make_inbound_filters(filter_options, observer));
      ASSERT_TRUE(started) << started.error().message;
      proxy = std::move(*started);
      if (gate_open_at_start) gate.open();
      ready.set_value();
      loop_.run();
      proxy.reset();
    });
    ready.get_future().wait();
  }
  void stop() {
    if (!thread_.joinable()) return;
    loop_.post_from_any_thread([this] { loop_.stop(); });
    thread_.join();
  }
  // Runs f on the loop's thread and returns what it returns.
  template <typename F>
  auto on_loop(F f) {
    std::promise<decltype(f())> result;
    loop_.post_from_any_thread([&] {
      if constexpr (std::is_void_v<decltype(f())>) {
        f();
        result.set_value();
      } else {
        result.set_value(f());
      }
    });
    return result.get_future().get();
  }
  // Waits until f, run on the loop, is true.
  template <typename F>
  bool eventually(F f) {
    for (int i = 0; i < wait_ms_max / 5; ++i) {
      if (on_loop(f)) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }
  void open_gate() {
    on_loop([this] { gate.open(); });
  }
  void close_gate() {
    on_loop([this] { gate.close(); });
  }
  Peer caller() {
    return Peer::connect(on_loop([this] { return proxy->address(); }));
  }

  Agent agent;
  ProxyOptions options;
  InboundFilterOptions filter_options;
  bool gate_open_at_start = true;
  RecordingObserver observer;
  EventLoop loop_;
  AgentGate gate{loop_};
  std::unique_ptr<ProxyServer> proxy;

 private:
  std::thread thread_;
};

}  // namespace remora::test
