// One connection to the agent: a transport and a client codec, and who is waiting for what on it.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "sidecar/http/codec.h"
#include "sidecar/net/loop.h"
#include "sidecar/net/transport.h"

namespace remora {

// What comes back on one stream. After on_upstream_end or on_upstream_failed nothing more comes.
class UpstreamEvents {
 public:
  virtual ~UpstreamEvents() = default;
  virtual void on_upstream_informational(http::ResponseHead head) = 0;
  virtual void on_upstream_response(http::ResponseHead head, bool end) = 0;
  virtual void on_upstream_data(std::span<const uint8_t> bytes) = 0;
  virtual void on_upstream_trailers(ArenaPtr arena, http::HeaderMap trailers) = 0;
  virtual void on_upstream_end() = 0;
  virtual void on_upstream_failed(http::StreamErrorKind kind, const Error& error) = 0;
  // buffered() has fallen below its low watermark.
  virtual void on_upstream_drained() = 0;
};

class UpstreamConnection;

class UpstreamConnectionOwner {
 public:
  virtual ~UpstreamConnectionOwner() = default;
  // Connected, or a stream has ended: a stream can be opened.
  virtual void on_connection_ready(UpstreamConnection& connection) = 0;
  // Take it out and defer its deletion. was_connected: false when connecting failed.
  virtual void on_connection_closed(UpstreamConnection& connection, const Error& error,
                                    bool was_connected) = 0;
};

class UpstreamConnection final : public Deferred, TransportEvents, http::CodecEvents {
 public:
  UpstreamConnection(Loop& loop, UpstreamConnectionOwner& owner,
                     std::unique_ptr<Transport> transport, http::Version version,
                     const http::CodecLimits& limits);

  http::Version version() const { return version_; }
  bool connected() const { return connected_; }
  bool can_open() const { return connected_ && !closed_ && codec_->can_open(); }
  bool idle() const { return streams_.empty(); }
  // It has served a stream before: the agent may have closed it while it was idle.
  bool reused() const { return opened_ > 1; }
  MonotonicTime idle_since() const { return idle_since_; }

  Result<http::StreamId> open(const http::RequestHead& head, bool end, UpstreamEvents& events);
  void send_data(http::StreamId id, std::span<const uint8_t> bytes, bool end);
  void send_trailers(http::StreamId id, const http::HeaderMap& trailers);
  void consume(http::StreamId id, size_t n);
  size_t buffered(http::StreamId id) const { return codec_->buffered(id); }
  // The exchange wants no more of this stream: no event comes for it after the call.
  void abandon(http::StreamId id);
  // The response is over, and the rest of the request is not worth sending.
  void stop_sending(http::StreamId id);
  void close(const Error& reason);

 private:
  struct Stream {
    http::StreamId id;
    UpstreamEvents* events;
  };

  // TransportEvents
  void on_connected() override;
  void on_read(std::span<const uint8_t> bytes) override;
  void on_read_eof() override;
  void on_writable() override { flush(); }
  void on_transport_error(const Error& error) override { close(error); }
  // CodecEvents
  void on_informational(http::StreamId id, http::ResponseHead head) override;
  void on_response(http::StreamId id, http::ResponseHead head, bool end) override;
  void on_data(http::StreamId id, std::span<const uint8_t> bytes) override;
  void on_trailers(http::StreamId id, ArenaPtr arena, http::HeaderMap trailers) override;
  void on_end(http::StreamId id) override;
  void on_stream_error(http::StreamId id, http::StreamErrorKind kind, const Error& error) override;
  void on_drained(http::StreamId id) override;

  UpstreamEvents* find(http::StreamId id);
  UpstreamEvents* take(http::StreamId id);
  void schedule_flush();
  void flush();
  void after_stream();

  Loop& loop_;
  UpstreamConnectionOwner& owner_;
  http::Version version_;
  std::unique_ptr<http::Codec> codec_;
  std::unique_ptr<Transport> transport_;
  std::vector<Stream> streams_;
  uint64_t opened_ = 0;
  MonotonicTime idle_since_{};
  bool connected_ = false;
  bool closed_ = false;
  bool flush_posted_ = false;
  bool ready_posted_ = false;
  bool write_shut_ = false;
};

}  // namespace remora
