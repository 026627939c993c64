// One connection to the API server, HTTP/2 where TLS has agreed on it, else HTTP/1.1 with one
// exchange at a time.
//
// It looks after its own life: while something is under way and nothing has come for ping_after_ms
// it asks for a sign of life, and gives up when none comes within pong_ms_max (a peer that has
// vanished doesn't say so, and its watches would wait for ever). What it carries then fails at once
// and may be asked on another connection.
//
// Deferred: it is given to the loop when it is dead, and then tells nobody anything.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "k8s/api/server.h"
#include "sidecar/http/codec.h"
#include "sidecar/net/transport.h"

namespace remora::k8s {

class Exchange;
class Pool;

inline constexpr int api_connect_ms_max = 10'000;
inline constexpr int api_ping_after_ms = 15'000;
inline constexpr int api_pong_ms_max = 10'000;
inline constexpr int api_life_check_ms = 5'000;
inline constexpr int api_idle_ms_max = 90'000;

class Connection final : public Deferred, TransportEvents, http::CodecEvents {
 public:
  Connection(Loop& loop, Pool& pool, std::unique_ptr<Transport> transport);
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  void start() { transport_->start(*this); }

  bool connecting() const { return codec_ == nullptr && !dead_; }
  bool is_h2() const { return codec_ && codec_->version() == http::Version::kHttp2; }
  // Will take exchanges now or later.
  bool lives() const { return !dead_ && !draining_; }
  bool has_room() const { return lives() && codec_ && codec_->can_open(); }
  // has_room() holds.
  void send(Exchange& exchange);

  // From an exchange that ends before its answer has.
  void abandon(http::StreamId stream);
  // An answer that should have come has not: ask for a sign of life at once.
  void doubt();
  // Ends without telling anybody.
  void kill() {
    dead_ = true;
    life_.cancel();
  }

 private:
  // TransportEvents
  void on_connected() override;
  void on_read(std::span<const uint8_t> bytes) override;
  void on_read_eof() override;
  void on_writable() override;
  void on_transport_error(const Error& error) override { die(ErrorCode::kUnavailable, error); }
  // CodecEvents
  void on_response(http::StreamId id, http::ResponseHead head, bool end) override;
  void on_data(http::StreamId id, std::span<const uint8_t> bytes) override;
  void on_trailers(http::StreamId /*id*/, ArenaPtr /*arena*/, http::HeaderMap /*map*/) override {}
  void on_end(http::StreamId id) override;
  void on_stream_error(http::StreamId id, http::StreamErrorKind kind, const Error& error) override;
  void on_drained(http::StreamId /*id*/) override {}
  void on_goaway() override { draining_ = true; }

  Exchange* find(http::StreamId id) const;
  Exchange* take(http::StreamId id);
  bool may_repeat(const Exchange& exchange) const;
  void flush();
  void after_event();
  void check_life();
  void die(ErrorCode code, const Error& why);

  Loop& loop_;
  Pool& pool_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<http::Codec> codec_;  // from on_connected on
  std::map<http::StreamId, Exchange*> streams_;
  MonotonicTime heard_at_;
  MonotonicTime pinged_at_{};
  MonotonicTime idle_since_;
  uint64_t answers_ = 0;
  bool pinged_ = false;
  bool draining_ = false;
  bool read_paused_ = false;
  bool dead_ = false;
  Subscription life_;
};

}  // namespace remora::k8s
