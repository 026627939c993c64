// Connections to the agent, kept alive and shared by exchanges.
//
// HTTP/1.1: a connection serves one stream at a time; idle ones are reused last in, first out, so
// that a burst's surplus ages out. HTTP/2: one connection carries many streams; another is opened
// when it is full. Requests past connections_max wait in order of arrival.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "sidecar/net/loop.h"
#include "sidecar/net/socket_address.h"
#include "sidecar/proxy/upstream_connection.h"

namespace remora {

struct UpstreamOptions {
  SocketAddress address;
  // Begins a connection, instead of one to address. Empty: that.
  std::function<std::unique_ptr<Transport>()> connect{};
  Duration connect_timeout = std::chrono::seconds(5);
  // Idle connections are closed after it. Shorter than most servers' own keep-alive limit matters
  // less than retrying on a fresh connection, which exchanges do.
  Duration idle_timeout = std::chrono::seconds(60);
  size_t connections_max = 512;
  http::CodecLimits limits;
};

class UpstreamPool final : public UpstreamConnectionOwner {
 public:
  class Waiter {
   public:
    virtual ~Waiter() = default;
    // A stream can be opened on the connection now, inside this call.
    virtual void on_upstream_ready(UpstreamConnection& connection) = 0;
    // Connecting failed: nothing was sent.
    virtual void on_upstream_connect_failed(const Error& error) = 0;
  };

  UpstreamPool(Loop& loop, UpstreamOptions options) : loop_(loop), options_(std::move(options)) {}
  ~UpstreamPool() override;
  UpstreamPool(const UpstreamPool&) = delete;
  UpstreamPool& operator=(const UpstreamPool&) = delete;

  // A connection with a free stream, to be used at once; or nullptr: then the waiter is called
  // later, once, unless it leaves.
  UpstreamConnection* acquire(http::Version version, Waiter& waiter);
  void leave(Waiter& waiter);

  // Closes idle connections past their time. Called by the proxy's tick.
  void expire_idle(MonotonicTime now);
  // The agent is gone: idle connections are of no use.
  void close_idle();
  size_t connections() const { return connections_.size(); }

 private:
  struct Waiting {
    Waiter* waiter;
    http::Version version;
  };

  void on_connection_ready(UpstreamConnection& connection) override;
  void on_connection_closed(UpstreamConnection& connection, const Error& error,
                            bool was_connected) override;
  UpstreamConnection* find_ready(http::Version version);
  size_t connecting(http::Version version) const;
  void connect(http::Version version);
  void serve_waiting();

  Loop& loop_;
  UpstreamOptions options_;
  std::vector<std::unique_ptr<UpstreamConnection>> connections_;
  std::vector<UpstreamConnection*> idle_h1_;  // back: used last
  std::deque<Waiting> waiting_;
};

}  // namespace remora
