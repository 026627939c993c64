// Relays bytes between a caller and the agent as they are: opaque TCP. Half-closes are passed on
// (one side may go on sending after the other has finished), and each direction is paused when the
// bytes queued for the other side pass kHighWatermarkBytes.
#pragma once

#include <memory>
#include <string_view>

#include "sidecar/base/buffer.h"
#include "sidecar/net/socket_address.h"
#include "sidecar/net/transport.h"
#include "sidecar/proxy/agent_gate.h"
#include "sidecar/proxy/connection.h"

namespace remora {

struct TunnelOptions {
  SocketAddress upstream;
  Duration connect_timeout{};
  // How long an upstream that refuses is tried again; zero: once.
  Duration hold_wait{};
  int socket_priority = 0;  // see connect_socket
};

class Tunnel final : public Connection, AgentGate::Waiter {
 public:
  static constexpr size_t kHighWatermarkBytes = 256 * 1024;
  static constexpr size_t kLowWatermarkBytes = 64 * 1024;

  Tunnel(Loop& loop, AgentGate& gate, ConnectionOwner& owner, std::unique_ptr<Transport> downstream,
         TunnelOptions options);
  ~Tunnel() override;
  Tunnel(const Tunnel&) = delete;
  Tunnel& operator=(const Tunnel&) = delete;

  // For a new transport.
  void start();
  // For a transport whose first bytes are here, and, when the agent spoke first, its connection
  // and bytes.
  void resume(std::string_view from_caller, bool caller_ended, std::unique_ptr<Transport> upstream,
              std::string_view from_agent);

  void on_tick(MonotonicTime now) override;
  void start_drain() override {}  // ends when either side ends, or at the drain's deadline
  void close() override;

 private:
  struct Side final : TransportEvents {
    Side(Tunnel& owner, bool downstream) : tunnel(owner), is_downstream(downstream) {}
    void on_connected() override { tunnel.on_upstream_connected(); }
    void on_read(std::span<const uint8_t> bytes) override { tunnel.relay(*this, bytes); }
    void on_read_eof() override;
    void on_writable() override { tunnel.flush(*this); }
    void on_transport_error(const Error& error) override { tunnel.on_side_failed(*this, error); }

    Tunnel& tunnel;
    const bool is_downstream;
    std::unique_ptr<Transport> transport;
    Buffer output;  // waits to be written to this side
    bool connected = false;
    bool read_ended = false;
    bool write_ended = false;  // FIN sent
  };

  void on_gate_open() override { connect(); }
  void connect();
  void on_upstream_connected();
  void relay(Side& from, std::span<const uint8_t> bytes);
  void flush(Side& to);
  void on_side_failed(Side& side, const Error& error);
  Side& other(Side& side) { return side.is_downstream ? up_ : down_; }

  Loop& loop_;
  AgentGate& gate_;
  ConnectionOwner& owner_;
  const TunnelOptions options_;
  Side down_{*this, true};
  Side up_{*this, false};
  MonotonicTime waiting_since_;
  Subscription retry_timer_;
  bool closed_ = false;
};

}  // namespace remora
