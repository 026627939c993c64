#include "sidecar/proxy/tunnel.h"

#include <utility>

#include "sidecar/net/tcp.h"

namespace remora {
namespace {

// Between tries to reach an agent that refuses connections though nobody has said it is down.
constexpr std::chrono::milliseconds kRetryDelay{100};

}  // namespace

Tunnel::Tunnel(Loop& loop, AgentGate& gate, ConnectionOwner& owner,
               std::unique_ptr<Transport> downstream, TunnelOptions options)
    : loop_(loop),
      gate_(gate),
      owner_(owner),
      options_(std::move(options)),
      waiting_since_(loop.now()) {
  down_.transport = std::move(downstream);
  down_.connected = true;
}

Tunnel::~Tunnel() { gate_.leave(*this); }

void Tunnel::start() {
  down_.transport->start(down_);
  connect();
}

void Tunnel::resume(std::string_view from_caller, bool caller_ended,
                    std::unique_ptr<Transport> upstream, std::string_view from_agent) {
  down_.transport->set_events(down_);
  down_.read_ended = caller_ended;
  up_.output.append(from_caller);
  down_.output.append(from_agent);
  if (upstream == nullptr) {
    connect();
    return;
  }
  up_.transport = std::move(upstream);
  up_.transport->set_events(up_);
  on_upstream_connected();
  if (!closed_) flush(down_);
}

void Tunnel::connect() {
  retry_timer_.cancel();
  if (!gate_.is_open()) {
    gate_.wait(*this);
    return;
  }
  up_.transport =
      connect_socket(loop_, options_.upstream, options_.connect_timeout, options_.socket_priority);
  up_.transport->start(up_);
}

void Tunnel::on_upstream_connected() {
  up_.connected = true;
  flush(up_);
}

void Tunnel::relay(Side& from, std::span<const uint8_t> bytes) {
  if (closed_) return;
  Side& to = other(from);
  to.output.append(bytes);
  flush(to);
}

void Tunnel::flush(Side& to) {
  if (closed_) return;
  if (to.connected && !to.output.empty()) {
    const Result<size_t> taken = to.transport->write(as_bytes(to.output.view()));
    if (!taken) {
      close();
      return;
    }
    to.output.consume(*taken);
  }
  Side& from = other(to);
  if (from.read_ended && to.connected && to.output.empty() && !to.write_ended) {
    to.write_ended = true;
    to.transport->shutdown_write();
  }
  if (down_.write_ended && up_.write_ended) {
    close();
    return;
  }
  if (from.transport == nullptr || !from.connected) return;
  if (to.output.size() > kHighWatermarkBytes) {
    from.transport->set_read_paused(true);
  } else if (to.output.size() <= kLowWatermarkBytes) {
    from.transport->set_read_paused(false);
  }
}

void Tunnel::Side::on_read_eof() {
  read_ended = true;
  tunnel.flush(tunnel.other(*this));
}

void Tunnel::on_side_failed(Side& side, const Error& error) {
  if (closed_) return;
  if (side.is_downstream || side.connected || !error.retryable ||
      options_.hold_wait <= Duration::zero()) {
    close();
    return;
  }
  // The agent can't be reached, and nothing of this connection has been there: try again.
  loop_.defer_delete(std::move(up_.transport));
  retry_timer_ = loop_.add_timer(kRetryDelay, [this] { connect(); });
}

void Tunnel::on_tick(MonotonicTime now) {
  if (!up_.connected && now - waiting_since_ > options_.hold_wait) close();
}

void Tunnel::close() {
  if (closed_) return;
  closed_ = true;
  owner_.on_connection_closed(*this);
}

}  // namespace remora
