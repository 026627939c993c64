// Accepts connections. At most accepts_per_wake_max a turn, so that a flood of callers doesn't
// starve those already served. When descriptors run out (EMFILE) the listener sleeps for
// accept_backoff_ms and goes on, so that the loop doesn't spin on an unacceptable connection.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "sidecar/base/error.h"
#include "sidecar/base/handle.h"
#include "sidecar/net/loop.h"
#include "sidecar/net/socket_address.h"
#include "sidecar/net/transport.h"

namespace remora {

inline constexpr int accepts_per_wake_max = 16;
inline constexpr int accept_backoff_ms = 100;
inline constexpr int listen_backlog = 1024;

class Listener {
 public:
  using AcceptCallback = std::move_only_function<void(std::unique_ptr<Transport>)>;
  using RawAcceptCallback = std::move_only_function<void(UniqueFd fd, std::string peer)>;

  // Binds and listens. kAlreadyExists when the address is in use; the message says what to do.
  // A Unix socket's file is created with mode 0600 and removed by the destructor; a stale one is
  // replaced only when nobody listens on it.
  static Result<std::unique_ptr<Listener>> open(Loop& loop, const SocketAddress& address,
                                                AcceptCallback on_accept);
  // The same, for those who must see the socket before it becomes a transport.
  static Result<std::unique_ptr<Listener>> open_raw(Loop& loop, const SocketAddress& address,
                                                    RawAcceptCallback on_accept);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // The bound address, with the real port.
  const SocketAddress& address() const { return address_; }
  // Stops and restarts accepting; connections wait in the kernel's queue.
  void set_paused(bool paused);
  // Takes those who wait in the kernel's queue, then listens no more, for good: who comes later is
  // refused at once, and knows that nothing was done. In the queue of a listener that is only
  // paused he would be reset in the end, with his request perhaps half sent.
  void stop();

 private:
  Listener(Loop& loop, UniqueFd fd, const SocketAddress& address, RawAcceptCallback on_accept);
  // False when nobody is left in the queue, or it can't be asked now.
  bool accept_some();
  void sleep_on_exhaustion();

  Loop& loop_;
  UniqueFd fd_;
  SocketAddress address_;
  RawAcceptCallback on_accept_;
  bool paused_ = false;
  Subscription backoff_;
  std::unique_ptr<FdWatch> watch_;  // none once stopped
};

}  // namespace remora
