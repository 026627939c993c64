// bench_relay --port N --backend M: the floor. Copies bytes between each caller on 127.0.0.1:N and
// its own connection to 127.0.0.1:M, looking at none of them: what any user-space proxy pays at
// least. One thread, two reads and two writes per request.
#include <CLI/CLI.hpp>
#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <fcntl.h>

#include "benchmarks/loopback.h"

namespace remora::bench {
namespace {

constexpr size_t read_size_bytes = 64 * 1024;
constexpr int events_max = 256;

struct Pair;

// One side of a pair; `unsent` are bytes that this side's socket did not take yet.
struct Side {
  Pair* pair = nullptr;
  Side* other = nullptr;
  UniqueFd fd;
  std::string unsent;
  uint32_t watched = EPOLLIN;
};

struct Pair {
  Side caller;
  Side backend;
  bool dead = false;
};

class Relay {
 public:
  Relay(UniqueFd listener, UniqueFd epoll, uint16_t backend_port)
      : listener_(std::move(listener)), epoll_(std::move(epoll)), backend_port_(backend_port) {
    watch(epoll_.get(), EPOLL_CTL_ADD, listener_.get(), EPOLLIN, nullptr);
  }

  // Serves until a signal ends the process.
  Error serve() {
    std::array<epoll_event, events_max> events;
    for (;;) {
      const int ready = ::epoll_wait(epoll_.get(), events.data(), events_max, -1);
      if (ready < 0 && errno != EINTR) return error_from_errno(errno, "epoll_wait");
      bool any_died = false;
      for (int i = 0; i < ready; ++i) {
        const epoll_event& event = events[static_cast<size_t>(i)];
        auto* side = static_cast<Side*>(event.data.ptr);
        if (side == nullptr) {
          accept_all();
        } else if (!side->pair->dead && !advance(*side, event.events)) {
          side->pair->dead = true;
          any_died = true;
        }
      }
      // Only after the batch: a later event of it may still point into a dead pair.
      if (any_died) std::erase_if(pairs_, [](const auto& pair) { return pair->dead; });
    }
  }

 private:
  void accept_all() {
    for (;;) {
      UniqueFd caller(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!caller) return;
      auto backend = connect_to(backend_port_);
      if (!backend) continue;
      ::fcntl(backend->get(), F_SETFL, O_NONBLOCK);
      set_no_delay(caller.get());
      auto pair = std::make_unique<Pair>();
      attach(*pair, pair->caller, pair->backend, std::move(caller));
      attach(*pair, pair->backend, pair->caller, std::move(*backend));
      pairs_.push_back(std::move(pair));
    }
  }

  void attach(Pair& pair, Side& side, Side& other, UniqueFd fd) {
    side.pair = &pair;
    side.other = &other;
    watch(epoll_.get(), EPOLL_CTL_ADD, fd.get(), EPOLLIN, &side);
    side.fd = std::move(fd);
  }

  // False when the pair is over: an end of stream on either side ends both, which is all that
  // keep-alive load needs.
  bool advance(Side& side, uint32_t events) {
    if ((events & EPOLLOUT) != 0) {
      std::string pending = std::move(side.unsent);
      side.unsent.clear();
      if (!send_to(side, pending)) return false;
    }
    if ((events & EPOLLIN) == 0) return (events & (EPOLLHUP | EPOLLERR)) == 0;
    const ssize_t got = ::recv(side.fd.get(), buffer_.data(), buffer_.size(), 0);
    if (got < 0) return would_block(errno) || errno == EINTR;
    if (got == 0) return false;
    return send_to(*side.other, std::string_view(buffer_.data(), static_cast<size_t>(got)));
  }

  bool send_to(Side& side, std::string_view bytes) {
    const ssize_t sent = ::send(side.fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && !would_block(errno) && errno != EINTR) return false;
    if (sent < static_cast<ssize_t>(bytes.size())) {
      side.unsent.append(bytes.substr(sent < 0 ? 0 : static_cast<size_t>(sent)));
    }
    // While this side is full, the other is not read: memory stays bounded by one read.
    set_watched(side, EPOLLOUT, !side.unsent.empty());
    set_watched(*side.other, EPOLLIN, side.unsent.empty());
    return true;
  }

  void set_watched(Side& side, uint32_t flag, bool on) {
    const uint32_t wanted = on ? side.watched | flag : side.watched & ~flag;
    if (wanted == side.watched) return;
    side.watched = wanted;
    watch(epoll_.get(), EPOLL_CTL_MOD, side.fd.get(), wanted, &side);
  }

  UniqueFd listener_;
  UniqueFd epoll_;
  uint16_t backend_port_;
  std::array<char, read_size_bytes> buffer_;
  std::vector<std::unique_ptr<Pair>> pairs_;
};

int run(uint16_t port, uint16_t backend_port) {
  auto listener = listen_on(port);
  auto epoll = make_epoll();
  Error error;
  if (!listener) {
    error = listener.error();
  } else if (!epoll) {
    error = epoll.error();
  } else {
    error = std::make_unique<Relay>(std::move(*listener), std::move(*epoll), backend_port)->serve();
  }
  std::fprintf(stderr, "bench_relay: %s\n", error.message.c_str());
  return 1;
}

}  // namespace
}  // namespace remora::bench

int main(int argc, char** argv) {
  CLI::App app{"Byte relay: the least that a proxy can cost"};
  uint16_t port = 0;
  uint16_t backend_port = 0;
  app.add_option("--port", port, "loopback port for callers")->required();
  app.add_option("--backend", backend_port, "loopback port of the backend")->required();
  CLI11_PARSE(app, argc, argv);
  return remora::bench::run(port, backend_port);
}
