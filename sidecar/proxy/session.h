// One caller's HTTP connection: a transport, a server codec, and the exchanges in progress (one for
// HTTP/1.1, many for HTTP/2). The session moves bytes and keeps the connection's timeouts; what
// happens to a request is the exchange's business.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sidecar/http/codec.h"
#include "sidecar/net/transport.h"
#include "sidecar/proxy/connection.h"
#include "sidecar/proxy/exchange.h"

namespace remora {

// After a reply to a request whose body nobody read, the rest is discarded for this long before the
// connection is closed, so that the reply is not lost to a TCP reset.
inline constexpr int linger_ms_max = 2000;

class Session final : public Connection,
                      public TransportEvents,
                      public http::CodecEvents,
                      public ExchangeHost {
 public:
  Session(ProxyContext& context, ConnectionOwner& owner, std::unique_ptr<Transport> transport,
          http::Version version, const http::CodecLimits& limits,
          const ConnectionTimeouts& timeouts);

  // Takes over a transport: one that is new, or one whose first bytes are already here.
  void start();
  void resume(std::span<const uint8_t> first_bytes);

  void on_tick(MonotonicTime now) override;
  void announce_end() override;
  void start_drain() override;
  void close() override;

 private:
  // TransportEvents
  void on_read(std::span<const uint8_t> bytes) override;
  void on_read_eof() override;
  void on_writable() override { flush(); }
  void on_transport_error(const Error&) override { close(); }
  // CodecEvents
  void on_request(http::StreamId id, http::RequestHead head, bool end) override;
  void on_data(http::StreamId id, std::span<const uint8_t> bytes) override;
  void on_trailers(http::StreamId id, ArenaPtr arena, http::HeaderMap trailers) override;
  void on_end(http::StreamId id) override;
  void on_stream_error(http::StreamId id, http::StreamErrorKind kind, const Error& error) override;
  void on_drained(http::StreamId id) override;
  // ExchangeHost
  void send_informational(http::StreamId id, const http::ResponseHead& head) override;
  void send_response(http::StreamId id, const http::ResponseHead& head, bool end) override;
  void send_data(http::StreamId id, std::span<const uint8_t> bytes, bool end) override;
  void send_trailers(http::StreamId id, const http::HeaderMap& trailers) override;
  void abort(http::StreamId id) override;
  void consume(http::StreamId id, size_t n) override;
  size_t buffered(http::StreamId id) const override { return codec_->buffered(id); }
  const std::string& peer() const override { return transport_->peer_address(); }
  void on_exchange_done(http::StreamId id) override;

  Exchange* find(http::StreamId id);
  void receive(std::span<const uint8_t> bytes);
  void on_protocol_error(const Error& error);
  void schedule_flush();
  void flush();
  void after_flush();
  void finish_or_linger();
  void end_if_silent(MonotonicTime now);
  void end_idle();

  ProxyContext& context_;
  ConnectionOwner& owner_;
  const http::Version version_;
  const ConnectionTimeouts& timeouts_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<http::Codec> codec_;
  std::vector<std::unique_ptr<Exchange>> exchanges_;
  MonotonicTime last_read_at_;
  MonotonicTime idle_since_;
  // Bytes of a request head have come, but not the whole head.
  bool head_in_progress_ = false;
  bool served_any_ = false;
  // Answered before all of the request was read: closing at once would reset the connection under
  // the answer.
  bool rest_unread_ = false;
  bool peer_ended_ = false;
  bool write_shut_ = false;
  bool ends_idle_ = false;
  bool lingering_ = false;
  bool flush_posted_ = false;
  bool closed_ = false;
};

}  // namespace remora
