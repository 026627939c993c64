// The other end of the tests in network namespaces, made of the product's own parts: recovers
// original destinations, and calls with and without the sidecar's mark.
//
//   netns_peer serve PORT…        answers each connection with one line, "port=P original=A", and
//                                 closes it
//   netns_peer relay PORT…        a sidecar in small: what arrives goes on to where it was meant to
//                                 go, with the sidecar's mark; its line comes before the answer's
//   netns_peer ask [--own] ADDR   connects (--own: with the mark) and prints the answer
//
// serve and relay print "ready" once they listen, on every address of IPv4 and IPv6.
#include <cstdio>
#include <cstdlib>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include <netinet/in.h>
#include <sys/socket.h>

#include "sidecar/net/event_loop.h"
#include "sidecar/net/original_dst.h"
#include "sidecar/net/tcp.h"

namespace {

using namespace remora;  // NOLINT(google-build-using-namespace)
using namespace std::chrono_literals;

constexpr auto connect_wait = 5s;
constexpr int exit_unanswered = 1;
constexpr int exit_usage = 2;

[[noreturn]] void give_up(const std::string& what, int exit_code = exit_unanswered) {
  std::fprintf(stderr, "netns_peer: %s\n", what.c_str());
  std::exit(exit_code);
}

// Calls an address and gives its whole answer, or "failed: …", to done.
class Call final : public TransportEvents {
 public:
  using Done = std::move_only_function<void(const std::string&)>;
  Call(Loop& loop, const SocketAddress& to, bool own, Done done) : done_(std::move(done)) {
    transport_ = connect_socket(loop, to, connect_wait, own ? own_socket_priority : 0);
    transport_->start(*this);
  }
  void on_read(std::span<const uint8_t> bytes) override {
    answer_.append(bytes.begin(), bytes.end());
  }
  void on_read_eof() override { done_(answer_); }
  void on_writable() override {}
  void on_transport_error(const Error& error) override { done_("failed: " + error.message + "\n"); }

 private:
  Done done_;
  std::string answer_;
  std::unique_ptr<Transport> transport_;
};

class Server {
 public:
  enum class Kind { kAnswer, kRelay };

  explicit Server(Loop& loop) : loop_(loop) {}

  void listen(uint16_t port, Kind kind) {
    UniqueFd fd(::socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const int off = 0;
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    const auto address = make_socket_address("::", port);
    if (!address || ::bind(fd.get(), address->get(), address->length()) != 0 ||
        ::listen(fd.get(), SOMAXCONN) != 0) {
      give_up("can't listen on port " + std::to_string(port));
    }
    const int raw = fd.get();
    fds_.push_back(std::move(fd));
    watches_.push_back(loop_.watch_fd(
        raw, FdEvents::kRead, [this, raw, port, kind](FdEvents) { accept_all(raw, port, kind); }));
  }

 private:
  void accept_all(int listener, uint16_t port, Kind kind) {
    while (true) {
      UniqueFd fd(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!fd) return;
      const auto original = original_destination(fd.get());
      std::string line = "port=" + std::to_string(port) + " original=";
      line += !original ? original.error().message : *original ? (*original)->to_string() : "none";
      line += "\n";
      if (kind == Kind::kAnswer || !original || !*original) {
        send_all(fd.get(), line);
      } else {
        relay(std::move(fd), line, **original);
      }
    }
  }

  void relay(UniqueFd fd, const std::string& line, const SocketAddress& to) {
    calls_.emplace_back();
    const auto at = std::prev(calls_.end());
    *at = std::make_unique<Call>(
        loop_, to, true, [this, at, line, caller = std::move(fd)](const std::string& answer) {
          send_all(caller.get(), line + answer);
          loop_.post([this, at] { calls_.erase(at); });
        });
  }

  // A line fits into any socket's buffer.
  static void send_all(int fd, const std::string& text) {
    (void)!::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
  }

  Loop& loop_;
  std::vector<UniqueFd> fds_;
  std::vector<std::unique_ptr<FdWatch>> watches_;
  std::list<std::unique_ptr<Call>> calls_;
};

uint16_t port_of(const std::string& text) {
  const auto address = parse_socket_address(":" + text);
  if (!address) give_up(address.error().message, exit_usage);
  return address->port();
}

int ask(const std::vector<std::string>& words) {
  const bool own = words.size() == 2 && words[0] == "--own";
  if (words.size() != (own ? 2u : 1u)) give_up("ask [--own] ADDRESS:PORT", exit_usage);
  const auto to = parse_socket_address(words.back());
  if (!to) give_up(to.error().message, exit_usage);
  EventLoop loop;
  std::string answer;
  Call call(loop, *to, own, [&](const std::string& text) {
    answer = text;
    loop.stop();
  });
  loop.run();
  std::fputs(answer.c_str(), stdout);
  return answer.starts_with("port=") ? 0 : exit_unanswered;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() < 2) give_up("serve PORT… | relay PORT… | ask [--own] ADDRESS:PORT", exit_usage);
  const std::vector<std::string> rest(words.begin() + 1, words.end());
  if (words[0] == "ask") return ask(rest);
  EventLoop loop;
  Server server(loop);
  if (words[0] != "serve" && words[0] != "relay") {
    give_up("unknown command " + words[0], exit_usage);
  }
  const auto kind = words[0] == "serve" ? Server::Kind::kAnswer : Server::Kind::kRelay;
  for (const std::string& port : rest) server.listen(port_of(port), kind);
  std::puts("ready");
  std::fflush(stdout);
  loop.run();
  return 0;
}
