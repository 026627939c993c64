// bench_backend --port N: the fastest agent there is. HTTP/1.1 with keep-alive and pipelining on
// 127.0.0.1, one thread; /bytes/N answers N bytes, every other path 64.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "benchmarks/http_text.h"
#include "benchmarks/loopback.h"

namespace remora::bench {
namespace {

constexpr size_t read_size_bytes = 64 * 1024;
constexpr size_t request_head_bytes_max = 64 * 1024;
constexpr uint64_t reply_bytes_max = 64 * 1024 * 1024;
constexpr size_t reply_default_bytes = 64;
constexpr int events_max = 256;

std::string make_reply(size_t body_bytes) {
  std::string reply = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: ";
  reply.append(std::to_string(body_bytes)).append("\r\n\r\n").append(body_bytes, 'x');
  return reply;
}

struct Connection {
  UniqueFd fd;
  std::string input;
  std::string output;
  size_t output_sent = 0;
  uint64_t body_left = 0;
  bool waits_for_room = false;
};

class Backend {
 public:
  Backend(UniqueFd listener, UniqueFd epoll)
      : listener_(std::move(listener)),
        epoll_(std::move(epoll)),
        default_reply_(make_reply(reply_default_bytes)) {
    watch(epoll_.get(), EPOLL_CTL_ADD, listener_.get(), EPOLLIN, nullptr);
  }

  // Serves until a signal ends the process.
  Error serve() {
    std::array<epoll_event, events_max> events;
    for (;;) {
      const int ready = ::epoll_wait(epoll_.get(), events.data(), events_max, -1);
      if (ready < 0 && errno != EINTR) return error_from_errno(errno, "epoll_wait");
      for (int i = 0; i < ready; ++i) {
        auto* connection = static_cast<Connection*>(events[static_cast<size_t>(i)].data.ptr);
        if (connection == nullptr) {
          accept_all();
        } else if (!advance(*connection, events[static_cast<size_t>(i)].events)) {
          connections_.erase(connection->fd.get());
        }
      }
    }
  }

 private:
  void accept_all() {
    for (;;) {
      UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!fd) return;
      set_no_delay(fd.get());
      auto connection = std::make_unique<Connection>();
      watch(epoll_.get(), EPOLL_CTL_ADD, fd.get(), EPOLLIN, connection.get());
      const int key = fd.get();
      connection->fd = std::move(fd);
      connections_[key] = std::move(connection);
    }
  }

  // False when the connection is over.
  bool advance(Connection& connection, uint32_t events) {
    if ((events & EPOLLOUT) != 0 && !flush(connection)) return false;
    if ((events & EPOLLIN) == 0) return (events & (EPOLLHUP | EPOLLERR)) == 0;
    const ssize_t got = ::recv(connection.fd.get(), buffer_.data(), buffer_.size(), 0);
    if (got < 0) return would_block(errno) || errno == EINTR;
    if (got == 0) return false;
    std::string_view bytes(buffer_.data(), static_cast<size_t>(got));
    if (!connection.input.empty()) {
      connection.input.append(bytes);
      bytes = connection.input;
    }
    const size_t used = answer(connection, bytes);
    if (bytes.size() - used > request_head_bytes_max) return false;
    std::string rest(bytes.substr(used));
    connection.input = std::move(rest);
    return flush(connection);
  }

  // Queues a reply for each whole request and returns how many bytes were taken.
  size_t answer(Connection& connection, std::string_view bytes) {
    size_t used = 0;
    for (;;) {
      const auto skipped = std::min<uint64_t>(connection.body_left, bytes.size() - used);
      connection.body_left -= skipped;
      used += static_cast<size_t>(skipped);
      const size_t head_bytes = head_size(bytes.substr(used));
      if (head_bytes == 0) return used;
      const std::string_view head = bytes.substr(used, head_bytes);
      connection.body_left = content_length(head).value_or(0);
      used += head_bytes;
      append_reply(connection.output, head);
    }
  }

  void append_reply(std::string& output, std::string_view head) {
    constexpr std::string_view prefix = "/bytes/";
    std::string_view path = head.substr(std::min(head.find(' ') + 1, head.size()));
    path = path.substr(0, path.find(' '));
    if (!path.starts_with(prefix)) {
      output.append(default_reply_);
      return;
    }
    const auto size = std::min(to_number(path.substr(prefix.size())).value_or(reply_default_bytes),
                               reply_bytes_max);
    output.append(make_reply(static_cast<size_t>(size)));
  }

  bool flush(Connection& connection) {
    std::string& output = connection.output;
    size_t& done = connection.output_sent;
    while (done < output.size()) {
      const ssize_t sent =
          ::send(connection.fd.get(), output.data() + done, output.size() - done, MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0 && !would_block(errno)) return false;
      if (sent < 0) break;
      done += static_cast<size_t>(sent);
    }
    const bool waits = done < output.size();
    if (!waits) {
      output.clear();
      done = 0;
    }
    if (waits != connection.waits_for_room) {
      connection.waits_for_room = waits;
      watch(epoll_.get(), EPOLL_CTL_MOD, connection.fd.get(), waits ? EPOLLOUT : EPOLLIN,
            &connection);
    }
    return true;
  }

  UniqueFd listener_;
  UniqueFd epoll_;
  std::string default_reply_;
  std::array<char, read_size_bytes> buffer_;
  std::unordered_map<int, std::unique_ptr<Connection>> connections_;
};

int run(uint16_t port, const std::string& host) {
  auto listener = listen_on(port, host);
  auto epoll = make_epoll();
  Error error;
  if (!listener) {
    error = listener.error();
  } else if (!epoll) {
    error = epoll.error();
  } else {
    error = std::make_unique<Backend>(std::move(*listener), std::move(*epoll))->serve();
  }
  std::fprintf(stderr, "bench_backend: %s\n", error.message.c_str());
  return 1;
}

}  // namespace
}  // namespace remora::bench

int main(int argc, char** argv) {
  CLI::App app{"HTTP/1.1 backend for benchmarks"};
  uint16_t port = 0;
  std::string host = remora::bench::loopback_host;
  app.add_option("--port", port)->required();
  app.add_option("--address", host, "IPv4; default: the loopback address");
  CLI11_PARSE(app, argc, argv);
  return remora::bench::run(port, host);
}
