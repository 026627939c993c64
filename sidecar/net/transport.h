// The seam to a byte stream: TCP, Unix socket, or a test's pipe.
//
// A Transport holds no bytes: write() says how much the kernel took, the rest stays with the
// caller, who is told once when there is room again. So each connection has exactly one output
// buffer, the codec's, and backpressure has one place to look.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "sidecar/base/error.h"
#include "sidecar/net/loop.h"

namespace remora {

class TransportEvents {
 public:
  virtual ~TransportEvents() = default;
  // A client transport's connect has finished. Not called for accepted transports.
  virtual void on_connected() {}
  // Bytes from the peer; valid during the call only.
  virtual void on_read(std::span<const uint8_t> bytes) = 0;
  // The peer has shut its write side; writing may go on. Called once.
  virtual void on_read_eof() = 0;
  // Room again after a short write().
  virtual void on_writable() = 0;
  // The transport is dead (reset, connect failed or timed out); nothing is called after this.
  virtual void on_transport_error(const Error& error) = 0;
};

// Deferred: an owner that lets go of a transport inside one of its events hands it to the loop.
class Transport : public Deferred {
 public:
  // Begins delivering events. Called once, before anything else.
  virtual void start(TransportEvents& events) = 0;
  // Delivers events to another receiver from now on (a detector hands over to a session).
  virtual void set_events(TransportEvents& events) = 0;
  // Offers bytes; returns how many were taken (0 when there is no room). After a short write
  // on_writable() comes exactly once. An error here is final, and is returned, not also reported.
  virtual Result<size_t> write(std::span<const uint8_t> bytes) = 0;
  // Stops and restarts on_read(). Costs a system call each: pause only when a buffer is full.
  virtual void set_read_paused(bool paused) = 0;
  // Sends FIN after what was written.
  virtual void shutdown_write() = 0;
  // Bytes have come that on_read() has not been told of yet. A system call: for the moment before a
  // connection is ended that seems idle.
  virtual bool has_unread() const = 0;
  // "10.0.0.3:41234", or "unix:" for a Unix socket: for logs and Forwarded headers.
  virtual const std::string& peer_address() const = 0;
  // What TLS agreed on in its handshake (ALPN, RFC 7301), such as "h2"; empty when nothing.
  virtual std::string_view application_protocol() const { return {}; }
};

}  // namespace remora
