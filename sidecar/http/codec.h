// The seam between bytes and messages. A Codec does no I/O and has no clock: bytes go in through
// receive(), events come out synchronously from inside it, output waits in pending_output(). Two
// events can also come from inside wrote(): on_drained(), and on_stream_error() for an HTTP/2
// stream that ends with a frame of ours.
//
// Life of a connection: its owner (a downstream session or an upstream connection) feeds
// receive() from the transport, answers events, and once per loop round writes pending_output()
// and reports how much was taken through wrote(). The owner must not destroy the codec from inside
// an event. After receive() has returned an error the codec accepts no more input; what it has to
// say to the peer (an HTTP/2 GOAWAY) is in pending_output().
//
// Flow control: bytes handed to on_data() count against the stream until the owner gives them back
// through consume(). HTTP/2 turns that into window updates; HTTP/1.1 answers wants_read() with
// false past its window. In the other direction, buffered(stream) is what send_data() has queued;
// on_drained() comes once it has been above kStreamHighWatermarkBytes and has fallen below
// kStreamLowWatermarkBytes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "sidecar/base/error.h"
#include "sidecar/http/message.h"

namespace remora::http {

using StreamId = int32_t;  // HTTP/1.1: 1, 2, 3, … in order of requests
// HTTP/1.1 server role: with no request announced, one reply may be sent on this id, to a head that
// receive() has refused or that does not come to its end in time. The connection then closes.
inline constexpr StreamId kErrorStream = 0;

inline constexpr size_t kStreamHighWatermarkBytes = 256 * 1024;
inline constexpr size_t kStreamLowWatermarkBytes = 64 * 1024;
// Bytes of a body that a peer may send ahead of consume().
inline constexpr size_t kReceiveWindowBytes = 256 * 1024;

struct CodecLimits {
  size_t header_bytes_max = 64 * 1024;  // the whole head, names and values: 431 past it
  size_t header_count_max = 128;
  size_t url_bytes_max = 16 * 1024;  // 414 past it
  uint32_t concurrent_streams_max = 128;
  // HTTP/2 floods: each is a rate or a count past which the connection gets GOAWAY
  // ENHANCE_YOUR_CALM.
  uint32_t continuations_max = 8;
  uint64_t reset_burst_max = 200;
  uint64_t reset_rate_per_second_max = 33;
  size_t control_frames_queued_max = 1000;  // replies to PING and SETTINGS the peer does not read
};

enum class StreamErrorKind {
  kPeerReset,  // RST_STREAM, or the connection ended in the middle of the message
  kRefused,    // provably unprocessed (REFUSED_STREAM, or above GOAWAY's last id): always retryable
  kProtocol,   // the message breaks the protocol
};

class CodecEvents {
 public:
  virtual ~CodecEvents() = default;
  // Server role. end_stream: no body and no trailers follow (on_end is not called for it).
  virtual void on_request(StreamId, RequestHead, bool /*end_stream*/) {}
  // Client role. Interim 1xx responses but 101 come through on_informational, any number of times.
  virtual void on_informational(StreamId, ResponseHead) {}
  virtual void on_response(StreamId, ResponseHead, bool /*end_stream*/) {}
  // Both roles. Bytes are valid during the call.
  virtual void on_data(StreamId, std::span<const uint8_t>) = 0;
  // At most once, after the last on_data; always followed by on_end.
  virtual void on_trailers(StreamId, ArenaPtr, HeaderMap) = 0;
  virtual void on_end(StreamId) = 0;
  // The stream is over, nothing more comes for it, and nothing more may be sent on it.
  virtual void on_stream_error(StreamId, StreamErrorKind, const Error&) = 0;
  virtual void on_drained(StreamId) = 0;
  // The peer starts no more streams on this connection (HTTP/2 GOAWAY; client role: open no more).
  virtual void on_goaway() {}
};

class Codec {
 public:
  virtual ~Codec() = default;

  // Takes all of bytes. Called with an empty span it goes on with what it has kept unparsed.
  // Errors: kProtocol (answer 400), kLimitExceeded (431; 414 when the message starts with "url").
  // Each stream in progress has got its on_stream_error() before, but for an HTTP/1.1 request whose
  // body is at fault: it may still be answered, if no response has begun.
  virtual Result<void> receive(std::span<const uint8_t> bytes) = 0;
  // The peer has shut its write side. Ends or fails the streams in progress.
  virtual void receive_eof() = 0;
  // Pipelined input was kept because an exchange was unfinished or much output unsent (HTTP/1.1
  // server role), and now it can be parsed: call receive({}). Look after each exchange and flush;
  // inside receive() it is not needed, which goes on by itself.
  virtual bool has_unparsed() const { return false; }
  // False while so much is unconsumed or unparsed that the transport should be paused.
  virtual bool wants_read() const = 0;

  // Client role: opens a stream. Error kUnavailable when no stream is free (use can_open()).
  virtual Result<StreamId> send_request(const RequestHead& head, bool end_stream) = 0;
  virtual bool can_open() const = 0;
  // Server role. Interim: a 1xx other than 101.
  virtual void send_informational(StreamId id, const ResponseHead& head) = 0;
  virtual void send_response(StreamId id, const ResponseHead& head, bool end_stream) = 0;
  // Both roles. end finishes the message.
  virtual void send_data(StreamId id, std::span<const uint8_t> bytes, bool end) = 0;
  virtual void send_trailers(StreamId id, const HeaderMap& trailers) = 0;
  // Gives the stream up. HTTP/2: RST_STREAM (CANCEL towards an upstream, INTERNAL_ERROR towards a
  // caller). HTTP/1.1: the connection can't be used again.
  virtual void reset(StreamId id) = 0;
  virtual void consume(StreamId id, size_t n) = 0;
  virtual size_t buffered(StreamId id) const = 0;

  // Bytes for the peer, valid until the next call on the codec. May be called again after wrote().
  virtual std::string_view pending_output() = 0;
  virtual void wrote(size_t n) = 0;

  // Server role: asks the peer to go elsewhere, and serves what comes all the same. HTTP/1.1: the
  // next response says "Connection: close"; an idle connection stays open, for a request may be on
  // its way. HTTP/2: GOAWAY without a last stream, and the final one when the peer has answered the
  // PING behind it, so that a stream which crosses the first is served (RFC 9113 section 6.8).
  virtual void announce_end() = 0;
  // The same while something is in progress. An idle connection ends: close_after_flush() turns
  // true, HTTP/2 by its final GOAWAY, whether or not the peer has answered.
  virtual void start_drain() = 0;
  // Makes the peer give a sign of life, where the protocol can (HTTP/2 PING).
  virtual void ping() {}
  // No stream is open in either direction.
  virtual bool idle() const = 0;
  // The connection is of no further use once pending_output() is empty.
  virtual bool close_after_flush() const = 0;
  // Raw (upgraded) mode: this side has ended; send FIN once pending_output() is empty.
  virtual bool shutdown_write_after_flush() const { return false; }
  virtual Version version() const = 0;
};

enum class Role { kServer, kClient };
std::unique_ptr<Codec> make_h1_codec(Role role, CodecEvents& events, const CodecLimits& limits);
std::unique_ptr<Codec> make_h2_codec(Role role, CodecEvents& events, const CodecLimits& limits);

}  // namespace remora::http
