// HTTP/2 connections (RFC 9113) on nghttp2, both roles.
//
// Flow control: the connection's receive window is given back as bytes arrive and a stream's only
// through consume(). A stream that nobody reads so stops itself and not its neighbours; what a
// peer can make us hold is concurrent_streams_max * kReceiveWindowBytes.
// Output: frames are written into out_ up to output_bytes_max, so that one flush carries many; the
// rest of a body waits in its stream's buffer. wants_read() turns false while a peer that sends
// does not read (output_*_paused), which bounds the answers that it can make us queue.
//
// nghttp2 must not be entered from its own callbacks, so an event that comes out of mem_send
// (inside pending_output()) is kept until the end of receive() or wrote(); and header fields sent
// from inside an event are copied by nghttp2, while outside of one their frame is written at once
// from the message's own bytes.
//
// WebSocket over HTTP/2 (extended CONNECT, RFC 8441), server role: the request is announced as what
// it would be in HTTP/1.1, a complete GET with an upgrade, and the 101 that answers it is sent as
// 200. What the caller may send before that answer is nothing. The client role sends no upgrades.
// Server push is refused.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include <nghttp2/nghttp2.h>

#include "sidecar/base/buffer.h"
#include "sidecar/base/error.h"
#include "sidecar/base/handle.h"
#include "sidecar/http/codec.h"
#include "sidecar/http/h2_headers.h"

namespace remora::http {

class H2Codec final : public Codec {
 public:
  static constexpr size_t output_bytes_max = 64 * 1024;
  static constexpr size_t output_bytes_paused = 256 * 1024;
  static constexpr size_t output_frames_paused = 64;  // that wait behind output_bytes_max
  static constexpr int32_t connection_window_bytes = 1024 * 1024;
  static constexpr size_t pooled_streams_max = 128;
  // In the PING that separates the two GOAWAYs of a graceful end.
  static constexpr std::array<uint8_t, 8> drain_ping = {'d', 'r', 'a', 'i', 'n', 'i', 'n', 'g'};

  H2Codec(Role role, CodecEvents& events, const CodecLimits& limits);
  ~H2Codec() override;
  H2Codec(const H2Codec&) = delete;
  H2Codec& operator=(const H2Codec&) = delete;

  Result<void> receive(std::span<const uint8_t> bytes) override;
  void receive_eof() override;
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

  std::string_view pending_output() override;
  void wrote(size_t n) override;

  void announce_end() override;
  void start_drain() override;
  void ping() override;
  bool idle() const override { return streams_.empty() || failed_ || eof_; }
  bool close_after_flush() const override;
  Version version() const override { return Version::kHttp2; }

 private:
  struct Stream {
    StreamId id = 0;
    Buffer out;  // body bytes that are not in a frame yet
    ArenaPtr trailer_arena;
    HeaderMap trailers;  // to be sent after out
    size_t unconsumed = 0;
    bool muted = false;       // no (more) events: not announced, or given up by the owner
    bool got_head = false;    // client role: the final response's head has come
    bool peer_ended = false;  // END_STREAM has come
    bool head_sent = false;   // server role: the final response's head has been submitted
    bool out_ended = false;   // nothing will be added to out
    bool send_body = true;    // false for the answer to HEAD, 204 and 304
    bool is_head = false;     // the request's method is HEAD
    bool is_upgrade = false;  // server role: opened by an extended CONNECT
    bool deferred = false;    // nghttp2 waits for nghttp2_session_resume_data()
    bool above_high = false;  // on_drained() is owed
    bool reset_sent = false;  // a RST_STREAM of ours has been sent or submitted
  };
  struct LateEvent {
    StreamId id;
    bool drained;  // else a stream error
    StreamErrorKind kind;
    uint32_t error_code;
  };
  struct Callbacks;  // what nghttp2 calls
  static const nghttp2_session_callbacks* callbacks();

  bool is_server() const { return role_ == Role::kServer; }
  Stream* find(StreamId id) const;
  Stream* open_stream(StreamId id);
  void release_stream(StreamId id);

  void on_headers(const nghttp2_frame& frame);
  void finish_request(Stream& stream, bool end_stream);
  void finish_response(Stream& stream, bool end_stream);
  void finish_trailers(Stream& stream);
  void on_data(Stream& stream, std::span<const uint8_t> bytes);
  void on_end_stream(Stream& stream);
  void on_stream_closed(StreamId id, uint32_t error_code);
  void on_end_stream_sent(Stream& stream);
  void on_goaway_sent(const nghttp2_goaway& goaway);
  void reject(Stream& stream, HeaderBlock::Excess excess);
  void refuse_malformed(Stream& stream);
  void count_misbehaviour();
  ssize_t read_body(Stream& stream, size_t length, uint32_t* flags);
  static ssize_t read_body_callback(nghttp2_session*, int32_t, uint8_t*, size_t length,
                                    uint32_t* flags, nghttp2_data_source* source, void* user_data);
  int write_data_frame(Stream& stream, const uint8_t* frame_header, size_t length);

  void submit_reset(Stream& stream, uint32_t error_code);
  void submit_final_goaway();
  // Between submitting a head and this, nothing may be done to the message.
  void write_headers_now(StreamId id);
  bool in_nghttp2() const { return in_receive_ || in_send_; }
  void pump();
  void append_frame(std::span<const uint8_t> frame);
  void resume(Stream& stream);
  void emit_stream_error(StreamId id, StreamErrorKind kind, uint32_t error_code);
  void emit_late_events();
  void fail_all(StreamErrorKind kind, uint32_t error_code);
  Error connection_error(uint32_t error_code) const;

  const Role role_;
  CodecEvents& events_;
  const CodecLimits limits_;
  CHandle<nghttp2_session, nghttp2_session_del> session_;

  Buffer out_;
  HeaderBlock block_;
  HeaderList header_list_;
  std::vector<std::unique_ptr<Stream>> streams_;  // by ascending id
  std::vector<std::unique_ptr<Stream>> free_streams_;
  std::vector<LateEvent> late_events_;

  StreamId headers_awaited_ = 0;  // the stream whose HEADERS write_headers_now() waits for
  uint64_t misbehaviours_ = 0;    // malformed messages, less one for each stream that ended well
  uint32_t goaway_code_ = 0;      // of a GOAWAY sent for an error
  bool in_receive_ = false;       // inside nghttp2_session_mem_recv()
  bool in_send_ = false;          // inside nghttp2_session_mem_send()
  bool reset_flood_ = false;      // the GOAWAY that is being written ends a flood of RST_STREAM
  bool draining_ = false;
  bool final_goaway_submitted_ = false;
  bool final_goaway_sent_ = false;
  bool peer_goaway_ = false;
  bool eof_ = false;
  bool failed_ = false;  // nothing more is received
  bool broken_ = false;  // nghttp2 can't be used any more
};

}  // namespace remora::http
