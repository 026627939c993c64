// The sending half of H2Codec.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "sidecar/http/h2_codec.h"

namespace remora::http {
namespace {

bool allows_body(int status) { return status / 100 != 1 && status != 204 && status != 304; }

constexpr int32_t last_stream_id_of_notice = 0x7fffffff;

nghttp2_data_provider provider_for(void* stream, nghttp2_data_source_read_callback read) {
  nghttp2_data_provider provider{};
  provider.source.ptr = stream;
  provider.read_callback = read;
  return provider;
}

}  // namespace

bool H2Codec::can_open() const {
  if (is_server() || failed_ || broken_ || eof_ || draining_ || peer_goaway_) return false;
  const uint32_t peer_max =
      nghttp2_session_get_remote_settings(session_.get(), NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
  return streams_.size() < std::min(peer_max, limits_.concurrent_streams_max) &&
         nghttp2_session_check_request_allowed(session_.get()) != 0;
}

Result<StreamId> H2Codec::send_request(const RequestHead& head, bool end_stream) {
  if (!can_open()) {
    return make_error(ErrorCode::kUnavailable, ErrorSource::kUpstream,
                      "connection takes no further stream", true);
  }
  const auto fields = header_list_.from(head);
  header_list_.set_copied(in_nghttp2());
  const auto id = static_cast<StreamId>(nghttp2_session_get_next_stream_id(session_.get()));
  Stream* stream = open_stream(id);
  stream->head_sent = true;
  stream->is_head = head.method == "HEAD";
  stream->out_ended = end_stream;
  const nghttp2_data_provider provider = provider_for(stream, read_body_callback);
  const int32_t submitted =
      nghttp2_submit_request(session_.get(), nullptr, fields.data(), fields.size(),
                             end_stream ? nullptr : &provider, nullptr);
  if (submitted != id) {
    release_stream(id);
    return make_error(ErrorCode::kUnavailable, ErrorSource::kUpstream,
                      std::string("HTTP/2 request: ") + nghttp2_strerror(submitted), true);
  }
  write_headers_now(id);
  return id;
}

void H2Codec::send_informational(StreamId id, const ResponseHead& head) {
  const Stream* stream = find(id);
  if (!is_server() || stream == nullptr || stream->muted || stream->head_sent) return;
  const auto fields = header_list_.from(head);
  header_list_.set_copied(true);
  nghttp2_submit_headers(session_.get(), NGHTTP2_FLAG_NONE, id, nullptr, fields.data(),
                         fields.size(), nullptr);
}

void H2Codec::send_response(StreamId id, const ResponseHead& head, bool end_stream) {
  Stream* stream = find(id);
  if (!is_server() || stream == nullptr || stream->muted || stream->head_sent) return;
  if (head.status == 101 && !stream->is_upgrade) {  // no meaning (RFC 9113 section 8.6)
    reset(id);
    return;
  }
  const auto fields = header_list_.from(head);
  header_list_.set_copied(in_nghttp2());
  stream->head_sent = true;
  const bool is_opened = head.status == 101;
  stream->send_body = is_opened || (!stream->is_head && allows_body(head.status));
  stream->out_ended = end_stream;
  const nghttp2_data_provider provider = provider_for(stream, read_body_callback);
  const int submitted = nghttp2_submit_response(session_.get(), id, fields.data(), fields.size(),
                                                end_stream ? nullptr : &provider);
  if (submitted != 0) {
    reset(id);
    return;
  }
  write_headers_now(id);
}

// Encodes the head that has just been submitted, so that its bytes need not be copied. Inside
// nghttp2's callbacks that can't be done; there the fields are copied.
void H2Codec::write_headers_now(StreamId id) {
  if (in_nghttp2() || broken_) return;
  headers_awaited_ = id;
  in_send_ = true;
  while (headers_awaited_ != 0) {
    const uint8_t* data = nullptr;
    const ssize_t size = nghttp2_session_mem_send(session_.get(), &data);
    if (size <= 0) break;
    append_frame({data, static_cast<size_t>(size)});
  }
  in_send_ = false;
  // Never seen: can_open() has checked all that could hold a HEADERS frame back. nghttp2 must then
  // not be asked for output again, for the fields it would read may be gone.
  if (std::exchange(headers_awaited_, 0) != 0) broken_ = true;
}

void H2Codec::send_data(StreamId id, std::span<const uint8_t> bytes, bool end) {
  Stream* stream = find(id);
  if (stream == nullptr || stream->muted || !stream->head_sent || stream->out_ended) return;
  if (stream->send_body) stream->out.append(bytes);
  if (stream->out.size() > kStreamHighWatermarkBytes) stream->above_high = true;
  stream->out_ended = end;
  resume(*stream);
}

void H2Codec::send_trailers(StreamId id, const HeaderMap& trailers) {
  Stream* stream = find(id);
  if (stream == nullptr || stream->muted || !stream->head_sent || stream->out_ended) return;
  stream->trailer_arena = take_arena();
  for (const HeaderField& field : trailers) {
    stream->trailers.add(stream->trailer_arena->copy(field.name),
                         stream->trailer_arena->copy(field.value));
  }
  stream->out_ended = true;
  resume(*stream);
}

void H2Codec::resume(Stream& stream) {
  if (!std::exchange(stream.deferred, false)) return;
  nghttp2_session_resume_data(session_.get(), stream.id);
}

// How much of the body the next DATA frame carries; write_data_frame() then puts it down.
ssize_t H2Codec::read_body(Stream& stream, size_t length, uint32_t* flags) {
  const size_t size = std::min(length, stream.out.size());
  if (size == 0 && !stream.out_ended) {
    stream.deferred = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
  if (size == stream.out.size() && stream.out_ended) {
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (!stream.trailers.empty()) {
      *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
      const auto fields = header_list_.from_trailers(stream.trailers);
      header_list_.set_copied(true);
      nghttp2_submit_trailer(session_.get(), stream.id, fields.data(), fields.size());
    }
  }
  return static_cast<ssize_t>(size);
}

ssize_t H2Codec::read_body_callback(nghttp2_session*, int32_t, uint8_t*, size_t length,
                                    uint32_t* flags, nghttp2_data_source* source, void* user_data) {
  return static_cast<H2Codec*>(user_data)->read_body(*static_cast<Stream*>(source->ptr), length,
                                                     flags);
}

int H2Codec::write_data_frame(Stream& stream, const uint8_t* frame_header, size_t length) {
  constexpr size_t kFrameHeaderBytes = 9;
  if (out_.size() >= output_bytes_max) return NGHTTP2_ERR_WOULDBLOCK;
  out_.append(std::span(frame_header, kFrameHeaderBytes));
  out_.append(stream.out.view().substr(0, length));
  stream.out.consume(length);
  if (stream.above_high && stream.out.size() < kStreamLowWatermarkBytes) {
    stream.above_high = false;
    late_events_.push_back({stream.id, true, StreamErrorKind::kPeerReset, NGHTTP2_NO_ERROR});
  }
  return 0;
}

// RFC 9113 section 8.1: after a complete response the rest of the request is not wanted.
void H2Codec::on_end_stream_sent(Stream& stream) {
  if (!is_server() || stream.peer_ended) return;
  stream.muted = true;
  submit_reset(stream, NGHTTP2_NO_ERROR);
}

void H2Codec::on_goaway_sent(const nghttp2_goaway& goaway) {
  if (goaway.error_code == NGHTTP2_INTERNAL_ERROR) {
    goaway_code_ = NGHTTP2_ENHANCE_YOUR_CALM;
  } else if (goaway.error_code != NGHTTP2_NO_ERROR) {
    goaway_code_ = goaway.error_code;
  }
  if (goaway.last_stream_id != last_stream_id_of_notice) final_goaway_sent_ = true;
}

void H2Codec::submit_reset(Stream& stream, uint32_t error_code) {
  if (std::exchange(stream.reset_sent, true)) return;
  nghttp2_submit_rst_stream(session_.get(), NGHTTP2_FLAG_NONE, stream.id, error_code);
}

void H2Codec::reset(StreamId id) {
  Stream* stream = find(id);
  if (stream == nullptr || std::exchange(stream->muted, true)) return;
  submit_reset(*stream, is_server() ? NGHTTP2_INTERNAL_ERROR : NGHTTP2_CANCEL);
}

void H2Codec::consume(StreamId id, size_t n) {
  Stream* stream = find(id);
  if (stream == nullptr) return;
  const size_t consumed = std::min(n, stream->unconsumed);
  stream->unconsumed -= consumed;
  if (consumed > 0) nghttp2_session_consume_stream(session_.get(), id, consumed);
}

size_t H2Codec::buffered(StreamId id) const {
  const Stream* stream = find(id);
  return stream == nullptr ? 0 : stream->out.size();
}

void H2Codec::pump() {
  if (in_nghttp2()) return;
  in_send_ = true;
  while (!broken_ && out_.size() < output_bytes_max) {
    const uint8_t* data = nullptr;
    const ssize_t size = nghttp2_session_mem_send(session_.get(), &data);
    if (size < 0) broken_ = true;
    if (size <= 0) break;
    append_frame({data, static_cast<size_t>(size)});
  }
  in_send_ = false;
}

// nghttp2 ends a connection past its reset rate with INTERNAL_ERROR. A peer is told what it did
// (RFC 9113 section 7), so the code in the frame is replaced.
void H2Codec::append_frame(std::span<const uint8_t> frame) {
  constexpr size_t kErrorCodeOffset = 13;  // frame header, last stream id
  constexpr std::array<uint8_t, 4> kEnhanceYourCalm = {0, 0, 0, NGHTTP2_ENHANCE_YOUR_CALM};
  if (!std::exchange(reset_flood_, false) ||
      frame.size() < kErrorCodeOffset + kEnhanceYourCalm.size()) {
    out_.append(frame);
    return;
  }
  out_.append(frame.first(kErrorCodeOffset));
  out_.append(kEnhanceYourCalm);
  out_.append(frame.subspan(kErrorCodeOffset + kEnhanceYourCalm.size()));
}

bool H2Codec::wants_read() const {
  if (out_.size() < output_bytes_max) return true;
  return out_.size() < output_bytes_paused &&
         nghttp2_session_get_outbound_queue_size(session_.get()) < output_frames_paused;
}

std::string_view H2Codec::pending_output() {
  pump();
  return out_.view();
}

void H2Codec::wrote(size_t n) {
  out_.consume(n);
  emit_late_events();
}

void H2Codec::announce_end() {
  if (std::exchange(draining_, true) || failed_) return;
  if (!is_server()) return submit_final_goaway();
  nghttp2_submit_shutdown_notice(session_.get());
  nghttp2_submit_ping(session_.get(), NGHTTP2_FLAG_NONE, drain_ping.data());
}

void H2Codec::start_drain() {
  if (!streams_.empty()) return announce_end();
  draining_ = true;
  submit_final_goaway();
}

void H2Codec::submit_final_goaway() {
  if (failed_ || std::exchange(final_goaway_submitted_, true)) return;
  nghttp2_submit_goaway(session_.get(), NGHTTP2_FLAG_NONE,
                        nghttp2_session_get_last_proc_stream_id(session_.get()), NGHTTP2_NO_ERROR,
                        nullptr, 0);
}

void H2Codec::ping() {
  if (failed_ || broken_ || eof_) return;
  nghttp2_submit_ping(session_.get(), NGHTTP2_FLAG_NONE, nullptr);
}

bool H2Codec::close_after_flush() const {
  if (failed_ || broken_ || eof_) return true;
  if (streams_.empty() && (final_goaway_sent_ || peer_goaway_)) return true;
  return nghttp2_session_want_read(session_.get()) == 0 &&
         nghttp2_session_want_write(session_.get()) == 0;
}

}  // namespace remora::http
