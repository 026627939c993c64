// HTTP/1.1 connections (RFC 9112), both roles, one exchange at a time.
//
// Invariants:
// - A request or response whose framing is doubtful is an error, and nothing after it is parsed.
// - Server role: the next request is parsed only once the exchange before it is finished both ways;
//   until then its bytes wait in unparsed_, at most unparsed_bytes_max of them.
// - Server role: once the final response is out and the request is not yet complete, the rest of
//   the input is thrown away, never parsed.
// - Client role: bytes that no request asked for make the connection useless; they never become the
//   answer to a later request.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "sidecar/base/buffer.h"
#include "sidecar/base/error.h"
#include "sidecar/http/codec.h"
#include "sidecar/http/h1_parser.h"
#include "sidecar/http/h1_serializer.h"

namespace remora::http {

class H1Codec final : public Codec, private ChunkedReader::Sink {
 public:
  // Kept input at which wants_read() turns false, and at which receive() refuses more.
  static constexpr size_t pipelined_bytes_max = 64 * 1024;
  static constexpr size_t unparsed_bytes_max = 1024 * 1024;
  static constexpr int blank_lines_max = 4;               // in front of a request line
  static constexpr int informational_responses_max = 64;  // in front of a final response

  H1Codec(Role role, CodecEvents& events, const CodecLimits& limits);

  Result<void> receive(std::span<const uint8_t> bytes) override;
  void receive_eof() override;
  bool has_unparsed() const override;
  bool wants_read() const override;

  Result<StreamId> send_request(const RequestHead& head, bool end_stream) override;
  bool can_open() const override;
  void send_informational(StreamId id, const ResponseHead& head) override;
  void send_response(StreamId id, const ResponseHead& head, bool end_stream) override;
  void send_data(StreamId id, std::span<const uint8_t> bytes, bool end) override;
  void send_trailers(StreamId id, const HeaderMap& trailers) override;
  void reset(StreamId id) override;
  void consume(StreamId id, size_t n) override;
  size_t buffered(StreamId id) const override;

  std::string_view pending_output() override { return out_.view(); }
  void wrote(size_t n) override;

  void announce_end() override { ending_ = true; }
  void start_drain() override { draining_ = true; }
  bool idle() const override { return !exchange_open_ || failed_; }
  bool close_after_flush() const override;
  bool shutdown_write_after_flush() const override;
  Version version() const override { return Version::kHttp11; }

 private:
  enum class Receiving : uint8_t {
    kHead,      // before or inside a head
    kBody,      // inside a body, framed as body_ says
    kTrailers,  // inside the section after the last chunk
    kComplete,  // the message has ended
    kRaw,       // the connection was upgraded: bytes without framing
    kDiscard,   // nothing that comes matters any more
  };
  enum class Sending : uint8_t {
    kHead,      // server role: the final response's head is still to come
    kBody,      // framed as send_framing_ says
    kComplete,  // the message has ended
    kRaw,
  };

  bool is_server() const { return role_ == Role::kServer; }
  bool is_current(StreamId id) const { return exchange_open_ && id == stream_id_; }
  std::string_view request_method() const;

  // Takes what it can from the front of input; returns how many bytes.
  Result<size_t> process(std::string_view input);
  Result<size_t> process_head(std::string_view input);
  Result<size_t> process_body(std::string_view input);
  Result<size_t> process_trailers(std::string_view input);
  Result<void> check_partial_head(size_t bytes) const;
  Result<void> begin_request(std::string_view head);
  Result<void> begin_response(std::string_view head, bool more_input);
  Result<void> switch_to_raw(ResponseHead head);
  void set_body(const H1Framing& framing);
  void on_chunk_data(std::span<const uint8_t> bytes) override;
  void deliver(std::string_view bytes);
  void complete_receiving(bool more_input);
  std::unexpected<Error> fail(Error error);
  void fail_stream(StreamErrorKind kind, std::string_view message);

  StreamId open_exchange();
  void open_error_exchange();
  H1WriteOptions choose_response_framing(const ResponseHead& head, bool end_stream);
  void complete_sending();
  void finish_exchange_if_complete();
  void close_exchange();
  void note_queued();

  const Role role_;
  CodecEvents& events_;
  const CodecLimits limits_;

  Buffer out_;
  Buffer unparsed_;
  HeadScanner scanner_;
  ChunkedReader chunked_;

  StreamId stream_id_ = 0;
  bool exchange_open_ = false;
  Receiving receiving_ = Receiving::kHead;
  Sending sending_ = Sending::kHead;
  BodyFraming body_ = BodyFraming::kNone;
  BodyFraming send_framing_ = BodyFraming::kNone;
  uint64_t receive_remaining_ = 0;  // kLength: bytes of the body still to come
  uint64_t send_remaining_ = 0;     // kLength: bytes of the body still to be sent
  size_t unconsumed_ = 0;
  int blank_lines_ = 0;
  int informational_responses_ = 0;

  bool request_is_head_ = false;
  bool request_is_connect_ = false;
  bool request_has_upgrade_ = false;
  bool peer_is_http10_ = false;

  bool keep_alive_ = true;   // nothing so far forbids another exchange
  bool blocked_ = false;     // unparsed_ waits for the exchange to finish
  bool above_high_ = false;  // on_drained() is owed
  bool ending_ = false;
  bool draining_ = false;
  bool eof_ = false;  // the peer has shut its write side
  bool raw_send_ended_ = false;
  bool closing_ = false;  // of no further use once out_ is empty
  bool failed_ = false;   // receive() has returned an error
  bool in_receive_ = false;
  uint64_t wrote_bytes_ = 0;        // ever taken by the transport
  uint64_t request_begins_at_ = 0;  // client role: position of the current request in the output
};

}  // namespace remora::http
