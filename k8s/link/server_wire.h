// One connection to the Server and the calls on it; used by server.cc only.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "k8s/link/frame.h"
#include "k8s/link/server.h"
#include "k8s/link/wire.h"

namespace remora::link {

class ServerCall final : public Call {
 public:
  ServerCall(ServerWire& wire, http::StreamId id, std::string authorization);

  const std::string& authorization() const override { return authorization_; }
  const std::string& peer() const override;
  void accept() override;
  void send(const v1::OperatorMessage& message) override;
  void finish(StatusCode code, std::string_view message) override;

  // From the wire.
  void set_events(std::unique_ptr<CallEvents> events) { events_ = std::move(events); }
  void receive(std::span<const uint8_t> bytes);
  // The sidecar has nothing more to say: what it has said is answered, and the call ends.
  void on_peer_end();
  void end();

 private:
  void read(std::span<const uint8_t> bytes);
  bool take(std::string_view text);

  ServerWire& wire_;
  const http::StreamId id_;
  const std::string authorization_;
  std::unique_ptr<CallEvents> events_;
  FrameReader reader_;
  std::string early_;  // came before accept(): at most the stream's window
  bool accepted_ = false;
  bool peer_ended_ = false;
  bool finished_ = false;
  bool begun_ = false;  // the response's head has gone
};

class ServerWire final : public Wire {
 public:
  ServerWire(Loop& loop, Server& server, std::unique_ptr<Transport> transport, std::string peer);
  ~ServerWire() override { *here_ = false; }
  ServerWire(const ServerWire&) = delete;
  ServerWire& operator=(const ServerWire&) = delete;

  const std::string& peer() const { return peer_; }
  std::string source() const { return peer_.substr(0, peer_.rfind(':')); }
  // Ends all calls, then the connection.
  void retire();

 private:
  friend class ServerCall;
  void on_request(http::StreamId id, http::RequestHead head, bool end_stream) override;
  void on_data(http::StreamId id, std::span<const uint8_t> bytes) override;
  void on_trailers(http::StreamId /*id*/, ArenaPtr /*arena*/, http::HeaderMap /*map*/) override {}
  void on_end(http::StreamId id) override;
  void on_stream_error(http::StreamId id, http::StreamErrorKind kind, const Error& error) override;
  void on_dead(const Error& why) override;
  bool is_over() const override { return retired_ && calls_.empty(); }

  void refuse(http::StreamId id, int http_status, StatusCode code, std::string_view message);
  void settle();
  // Deferred: it may be on the stack.
  void drop_soon(http::StreamId id);
  void drop(http::StreamId id);
  void watch_newcomer();

  Server& server_;
  const std::string peer_;
  std::map<http::StreamId, std::unique_ptr<ServerCall>> calls_;
  bool newcomer_ = true;
  bool retired_ = false;
  Subscription newcomer_limit_;
  std::shared_ptr<bool> here_ = std::make_shared<bool>(true);
};

}  // namespace remora::link
