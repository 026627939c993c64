// The operator's end of the link: an HTTPS port that takes calls of remora.link.v1.Operator/Connect
// in gRPC's form, from sidecars and from any other client of gRPC.
//
// Nobody may hold it back or fill its memory: connections that have not been accepted yet are
// newcomers_max at a time (the rest waits in the kernel, which spreads a rush of sidecars that come
// back together), each for newcomer_ms_max; a call's messages are read only once it was accepted,
// and one that leaves unsent_bytes_max unread is ended. Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "k8s/link/link.pb.h"
#include "k8s/link/status.h"
#include "sidecar/base/error.h"
#include "sidecar/net/listener.h"
#include "sidecar/net/tls.h"

namespace remora::link {

inline constexpr std::string_view connect_path = "/remora.link.v1.Operator/Connect";
// Pods of one cluster (Kubernetes' own limit is 150,000; past this the namespaces are shared out).
inline constexpr size_t connections_max = 10'000;
inline constexpr size_t newcomers_max = 128;
// Of one address; one more is closed at once, so that a neighbour alone can't keep the others out.
inline constexpr size_t newcomers_per_source_max = 16;
inline constexpr int newcomer_ms_max = 15'000;
inline constexpr size_t unsent_bytes_max = 1 << 20;
inline constexpr uint32_t calls_per_connection_max = 4;

// One call. It lives until CallEvents::on_end() has been called.
class Call {
 public:
  virtual ~Call() = default;
  virtual const std::string& authorization() const = 0;  // the field's value
  virtual const std::string& peer() const = 0;           // "10.0.0.3:41234"
  // Its messages are told from now on.
  virtual void accept() = 0;
  virtual void send(const v1::OperatorMessage& message) = 0;
  // Nothing is told after it but on_end(). Never from inside on_end().
  virtual void finish(StatusCode code, std::string_view message) = 0;
};

class CallEvents {
 public:
  virtual ~CallEvents() = default;
  virtual void on_message(const v1::SidecarMessage& message) = 0;
  // The call is over; it and this are destroyed next.
  virtual void on_end() = 0;
};

struct ServerOptions {
  SocketAddress listen;
  // For each connection at its beginning; null: none can be taken yet, it is closed.
  std::function<std::shared_ptr<const TlsContext>()> tls;
};

class ServerWire;

class Server {
 public:
  // Who listens to a call; it may finish() the call at once.
  using OnCall = std::function<std::unique_ptr<CallEvents>(Call& call)>;

  // Errors: those of Listener::open.
  static Result<std::unique_ptr<Server>> start(Loop& loop, ServerOptions options, OnCall on_call);
  // Calls end without on_end().
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  const SocketAddress& address() const { return listener_->address(); }
  size_t connections() const { return wires_.size(); }
  size_t newcomers() const { return newcomers_; }
  // Takes no further connections and ends all calls, so that sidecars go elsewhere. Not from inside
  // an event of a call.
  void retire();

 private:
  friend class ServerWire;
  Server(Loop& loop, ServerOptions options, OnCall on_call);
  void on_accept(std::unique_ptr<Transport> transport);
  // From a wire.
  void on_settled(const std::string& source);
  void on_closed(ServerWire& wire, bool was_newcomer);
  void pace();

  Loop& loop_;
  const ServerOptions options_;
  const OnCall on_call_;
  size_t newcomers_ = 0;
  std::map<std::string, size_t> newcomers_of_;  // by address
  bool retired_ = false;
  std::map<const ServerWire*, std::unique_ptr<ServerWire>> wires_;
  std::unique_ptr<Listener> listener_;
};

}  // namespace remora::link
