// The sidecar's end of the link: keeps one call to the operator open. What ends is begun again
// after a pause that grows with each failure in a row, with jitter; a replica that says that it
// doesn't lead is no failure: another one is tried soon.
//
// The token is read for each call, for the kubelet replaces it; the authorities that are trusted
// are those that are given, and those that the operator has told since. Loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <random>
#include <string>

#include "k8s/link/link.pb.h"
#include "k8s/link/status.h"
#include "sidecar/net/event_loop.h"
#include "sidecar/net/resolver.h"

namespace remora::link {

inline constexpr int retry_base_ms = 1'000;
inline constexpr int retry_ms_max = 60'000;
// To another replica: the Service chooses one anew.
inline constexpr int retry_elsewhere_ms = 500;
inline constexpr int elsewhere_in_a_row_max = 8;
// A call that has lived for this long was no failure.
inline constexpr int good_call_ms = 10'000;

struct ClientOptions {
  std::string host;
  uint16_t port = 0;
  std::string token_file;
  // In PEM; asked for each connection.
  std::function<std::string()> trusted_pem;
  int socket_priority = 0;  // see connect_socket
  uint32_t seed = 1;        // of the jitter
};

struct ClientEvents {
  std::function<void()> on_open;  // the operator has accepted the call: say hello
  std::function<void(const v1::OperatorMessage&)> on_message;
  std::function<void(const std::string& why)> on_closed;  // after on_open, or instead of it
};

class ClientWire;

class Client {
 public:
  Client(EventLoop& loop, ClientOptions options, ClientEvents events);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void start();
  bool is_open() const { return open_; }
  // Nothing happens when it isn't open.
  void send(const v1::SidecarMessage& message);
  // Ends the call and begins another one.
  void restart(const std::string& why);

 private:
  friend class ClientWire;
  void connect();
  // From the wire.
  void on_open();
  void on_message(const v1::OperatorMessage& message) { events_.on_message(message); }
  void on_call_over(const Status& status);
  void on_lost(const Error& why);
  void again(const std::string& why, bool elsewhere);

  EventLoop& loop_;
  const ClientOptions options_;
  const ClientEvents events_;
  std::unique_ptr<Resolver> resolver_;
  std::unique_ptr<ClientWire> wire_;
  bool open_ = false;
  MonotonicTime opened_at_{};
  uint32_t failures_ = 0;  // in a row
  uint32_t elsewhere_ = 0;
  std::minstd_rand random_;
  std::string trouble_;  // logged
  Subscription next_;
};

}  // namespace remora::link
