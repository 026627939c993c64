// A connection of which nobody knows yet what it speaks. The first bytes decide. A caller that
// stays silent may be waiting for the agent to speak first (SMTP, MySQL, SSH): after the detect
// timeout the agent is connected, and whoever speaks first decides. That is not tried once the
// listener has seen HTTP, so that idle pre-connected clients never reach the agent.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "sidecar/net/socket_address.h"
#include "sidecar/net/transport.h"
#include "sidecar/proxy/connection.h"

namespace remora {

class Detector;

// What the server does with the outcome.
class DetectorHost {
 public:
  virtual ~DetectorHost() = default;
  virtual bool may_be_server_first() const = 0;
  virtual const SocketAddress& agent_address() const = 0;
  // Each puts the next form of the connection in the detector's place.
  virtual void become_session(Detector& detector, std::unique_ptr<Transport> transport, bool http2,
                              std::string_view first_bytes) = 0;
  virtual void become_tunnel(Detector& detector, std::unique_ptr<Transport> transport,
                             std::string_view from_caller, bool caller_ended,
                             std::unique_ptr<Transport> upstream, std::string_view from_agent) = 0;
};

class Detector final : public Connection, TransportEvents {
 public:
  Detector(Loop& loop, ConnectionOwner& owner, DetectorHost& host,
           std::unique_ptr<Transport> transport, const ConnectionTimeouts& timeouts);
  void start() { transport_->start(*this); }

  void on_tick(MonotonicTime now) override;
  // Whoever has just come is about to say what he wants, and is heard.
  void start_drain() override { draining_since_ = loop_.now(); }
  void close() override;

 private:
  // The connection to an agent that may speak first.
  struct Agent final : TransportEvents {
    explicit Agent(Detector& owner) : detector(owner) {}
    void on_read(std::span<const uint8_t> bytes) override;
    void on_read_eof() override { detector.drop_agent(); }
    void on_writable() override {}
    void on_transport_error(const Error&) override { detector.drop_agent(); }
    Detector& detector;
    std::unique_ptr<Transport> transport;
  };

  void on_read(std::span<const uint8_t> bytes) override;
  void on_read_eof() override;
  void on_writable() override {}
  void on_transport_error(const Error&) override { close(); }
  void drop_agent();
  void end(MonotonicTime now);
  void hand_over(bool http2);
  void relay_as_is(bool caller_ended);

  Loop& loop_;
  ConnectionOwner& owner_;
  DetectorHost& host_;
  const ConnectionTimeouts& timeouts_;
  std::unique_ptr<Transport> transport_;
  std::string bytes_;
  Agent agent_{*this};
  const MonotonicTime began_at_;
  std::optional<MonotonicTime> draining_since_;
  std::optional<MonotonicTime> ended_at_;  // our FIN is sent
  bool agent_tried_ = false;
  bool done_ = false;
};

}  // namespace remora
