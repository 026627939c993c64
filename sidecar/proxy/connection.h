// A caller's connection in one of its forms: being detected, speaking HTTP, or relayed as it is.
#pragma once

#include <memory>

#include "sidecar/net/loop.h"

namespace remora {

class Connection;

// A drain ends an idle connection once nothing has come on it for this long since the caller was
// asked to go elsewhere: one who uses his connection more often than that has been told.
inline constexpr int drain_silence_ms_max = 1000;
// After our FIN what the caller had already sent is taken and dropped for so long, so that he reads
// the end, and an answer or a GOAWAY before it, instead of a TCP reset.
inline constexpr int end_linger_ms_max = 500;

class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;
  // Take it out and defer its deletion.
  virtual void on_connection_closed(Connection& connection) = 0;
};

class Connection : public Deferred {
 public:
  // Timeouts; called every tick_interval_ms of ProxyServer.
  virtual void on_tick(MonotonicTime now) = 0;
  // Asks the caller to go elsewhere, and serves what comes all the same. Only HTTP has words for
  // it.
  virtual void announce_end() {}
  // Finishes what is in progress and what still comes, and closes itself when it has been silent.
  virtual void start_drain() = 0;
  // Ends at once; what is in progress is lost to the caller.
  virtual void close() = 0;

  size_t list_index = 0;  // in ProxyServer's list
};

struct ConnectionTimeouts {
  Duration idle = std::chrono::minutes(10);
  Duration headers = std::chrono::seconds(30);
  Duration detect = std::chrono::seconds(1);
  Duration connect = std::chrono::seconds(5);
};

}  // namespace remora
