#include "sidecar/http/h2_codec.h"

#include <algorithm>
#include <string>
#include <utility>

namespace remora::http {
namespace {

using OptionHandle = CHandle<nghttp2_option, nghttp2_option_del>;

OptionHandle make_options(const CodecLimits& limits) {
  nghttp2_option* raw = nullptr;
  nghttp2_option_new(&raw);
  OptionHandle options(raw);
  nghttp2_option_set_no_auto_window_update(raw, 1);
  nghttp2_option_set_no_closed_streams(raw, 1);
  nghttp2_option_set_max_continuations(raw, limits.continuations_max);
  nghttp2_option_set_stream_reset_rate_limit(raw, limits.reset_burst_max,
                                             limits.reset_rate_per_second_max);
  nghttp2_option_set_max_outbound_ack(raw, limits.control_frames_queued_max);
  // What one message may hold after it came in by HTTP/1.1, and what we add.
  nghttp2_option_set_max_send_header_block_length(raw, 2 * limits.header_bytes_max);
  return options;
}

}  // namespace

std::unique_ptr<Codec> make_h2_codec(Role role, CodecEvents& events, const CodecLimits& limits) {
  return std::make_unique<H2Codec>(role, events, limits);
}

H2Codec::H2Codec(Role role, CodecEvents& events, const CodecLimits& limits)
    : role_(role), events_(events), limits_(limits) {
  const OptionHandle options = make_options(limits);
  nghttp2_session* session = nullptr;
  const auto create = is_server() ? nghttp2_session_server_new2 : nghttp2_session_client_new2;
  create(&session, callbacks(), this, options.get());
  session_.reset(session);

  std::vector<nghttp2_settings_entry> settings = {
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, static_cast<uint32_t>(kReceiveWindowBytes)},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<uint32_t>(limits.header_bytes_max)},
  };
  if (is_server()) {
    settings.push_back({NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits.concurrent_streams_max});
    settings.push_back({NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1});
    settings.push_back({NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1});
  } else {
    settings.push_back({NGHTTP2_SETTINGS_ENABLE_PUSH, 0});
  }
  nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings.data(), settings.size());
  nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, connection_window_bytes);
}

H2Codec::~H2Codec() = default;

H2Codec::Stream* H2Codec::find(StreamId id) const {
  const auto it = std::ranges::lower_bound(streams_, id, {}, [](const auto& s) { return s->id; });
  return it != streams_.end() && (*it)->id == id ? it->get() : nullptr;
}

H2Codec::Stream* H2Codec::open_stream(StreamId id) {
  std::unique_ptr<Stream> stream;
  if (free_streams_.empty()) {
    stream = std::make_unique<Stream>();
  } else {
    stream = std::move(free_streams_.back());
    free_streams_.pop_back();
  }
  stream->id = id;
  // Ids only ever grow, so the list stays sorted.
  streams_.push_back(std::move(stream));
  return streams_.back().get();
}

void H2Codec::release_stream(StreamId id) {
  const auto it = std::ranges::lower_bound(streams_, id, {}, [](const auto& s) { return s->id; });
  if (it == streams_.end() || (*it)->id != id) return;
  std::unique_ptr<Stream> stream = std::move(*it);
  streams_.erase(it);
  if (free_streams_.size() >= pooled_streams_max) return;
  Buffer out = std::move(stream->out);
  out.clear();
  *stream = Stream();
  stream->out = std::move(out);
  free_streams_.push_back(std::move(stream));
}

Result<void> H2Codec::receive(std::span<const uint8_t> bytes) {
  if (failed_ || eof_ || in_receive_) return {};
  in_receive_ = true;
  const ssize_t taken = nghttp2_session_mem_recv(session_.get(), bytes.data(), bytes.size());
  in_receive_ = false;
  const size_t queued = nghttp2_session_get_outbound_queue_size(session_.get());
  if (taken == NGHTTP2_ERR_FLOODED ||
      queued > limits_.control_frames_queued_max + 2 * limits_.concurrent_streams_max) {
    nghttp2_session_terminate_session(session_.get(), NGHTTP2_ENHANCE_YOUR_CALM);
    goaway_code_ = NGHTTP2_ENHANCE_YOUR_CALM;
  } else if (taken < 0) {
    nghttp2_session_terminate_session(session_.get(), NGHTTP2_PROTOCOL_ERROR);
    goaway_code_ = NGHTTP2_PROTOCOL_ERROR;
  }
  // Here and not only when the owner asks for output: a message that nghttp2 has found malformed is
  // known to be over once its RST_STREAM is written.
  pump();
  emit_late_events();
  if (goaway_code_ == NGHTTP2_NO_ERROR) return {};
  failed_ = true;
  fail_all(is_server() ? StreamErrorKind::kPeerReset : StreamErrorKind::kProtocol, goaway_code_);
  return std::unexpected(connection_error(goaway_code_));
}

Error H2Codec::connection_error(uint32_t error_code) const {
  Error error;
  error.code =
      error_code == NGHTTP2_ENHANCE_YOUR_CALM ? ErrorCode::kLimitExceeded : ErrorCode::kProtocol;
  error.source = is_server() ? ErrorSource::kDownstream : ErrorSource::kUpstream;
  error.message = std::string("HTTP/2 connection: ") + nghttp2_http2_strerror(error_code);
  return error;
}

void H2Codec::receive_eof() {
  if (eof_ || failed_) return;
  eof_ = true;
  fail_all(StreamErrorKind::kPeerReset, NGHTTP2_NO_ERROR);
}

void H2Codec::fail_all(StreamErrorKind kind, uint32_t error_code) {
  // By id: an event may do anything with any stream.
  std::vector<StreamId> ids;
  for (const auto& stream : streams_) {
    if (!stream->muted) ids.push_back(stream->id);
  }
  for (const StreamId id : ids) {
    Stream* stream = find(id);
    if (stream == nullptr || std::exchange(stream->muted, true)) continue;
    emit_stream_error(id, kind, error_code);
  }
}

void H2Codec::emit_stream_error(StreamId id, StreamErrorKind kind, uint32_t error_code) {
  Error error;
  error.code = kind == StreamErrorKind::kProtocol ? ErrorCode::kProtocol : ErrorCode::kReset;
  error.source = is_server() ? ErrorSource::kDownstream : ErrorSource::kUpstream;
  error.retryable = kind == StreamErrorKind::kRefused;
  error.message = std::string("HTTP/2 stream: ") + nghttp2_http2_strerror(error_code);
  events_.on_stream_error(id, kind, error);
}

void H2Codec::emit_late_events() {
  // Events add no late events of their own: nothing in them enters mem_send but
  // write_headers_now(), whose additions the loop reaches too.
  // NOLINTNEXTLINE(modernize-loop-convert): it may grow meanwhile.
  for (size_t i = 0; i < late_events_.size(); ++i) {
    const LateEvent event = late_events_[i];
    if (!event.drained) {
      emit_stream_error(event.id, event.kind, event.error_code);
    } else if (const Stream* stream = find(event.id); stream != nullptr && !stream->muted) {
      events_.on_drained(event.id);
    }
  }
  late_events_.clear();
}

void H2Codec::on_headers(const nghttp2_frame& frame) {
  Stream* stream = find(frame.hd.stream_id);
  if (stream == nullptr || block_.stream_id() != stream->id) return;
  const bool end_stream = (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  if (end_stream) stream->peer_ended = true;
  if (frame.headers.cat == NGHTTP2_HCAT_REQUEST) {
    finish_request(*stream, end_stream);
    return;
  }
  if (stream->muted) return;
  if (!is_server() && !stream->got_head) {
    finish_response(*stream, end_stream);
  } else {
    finish_trailers(*stream);
  }
}

void H2Codec::finish_request(Stream& stream, bool end_stream) {
  if (block_.excess() != HeaderBlock::Excess::kNone) {
    reject(stream, block_.excess());
    return;
  }
  Result<RequestHead> head = block_.take_request();
  if (!head) {
    refuse_malformed(stream);
    return;
  }
  stream.is_head = head->method == "HEAD";
  stream.is_upgrade = !head->upgrade.empty();
  if (stream.is_upgrade && end_stream) {
    refuse_malformed(stream);
    return;
  }
  stream.muted = false;
  events_.on_request(stream.id, *std::move(head), end_stream || stream.is_upgrade);
}

void H2Codec::finish_response(Stream& stream, bool end_stream) {
  if (block_.excess() != HeaderBlock::Excess::kNone) {
    refuse_malformed(stream);
    return;
  }
  Result<ResponseHead> head = block_.take_response();
  if (!head) {
    refuse_malformed(stream);
    return;
  }
  if (head->status / 100 == 1) {
    events_.on_informational(stream.id, *std::move(head));
    return;
  }
  stream.got_head = true;
  events_.on_response(stream.id, *std::move(head), end_stream);
}

void H2Codec::finish_trailers(Stream& stream) {
  if (block_.excess() != HeaderBlock::Excess::kNone) {
    refuse_malformed(stream);
    return;
  }
  const StreamId id = stream.id;
  ArenaPtr arena;
  HeaderMap trailers = block_.take_trailers(&arena);
  if (!trailers.empty()) events_.on_trailers(id, std::move(arena), std::move(trailers));
  if (Stream* still = find(id); still != nullptr && !still->muted) on_end_stream(*still);
}

void H2Codec::on_data(Stream& stream, std::span<const uint8_t> bytes) {
  if (stream.is_upgrade && !stream.head_sent) {
    refuse_malformed(stream);
    return;
  }
  stream.unconsumed += bytes.size();
  events_.on_data(stream.id, bytes);
}

void H2Codec::on_end_stream(Stream& stream) {
  stream.peer_ended = true;
  if (stream.is_upgrade && !stream.head_sent && !stream.muted) {
    refuse_malformed(stream);
    return;
  }
  if (misbehaviours_ > 0) --misbehaviours_;
  if (!stream.muted) events_.on_end(stream.id);
}

// The answer to a request that the owner never hears of.
void H2Codec::reject(Stream& stream, HeaderBlock::Excess excess) {
  ResponseHead head;
  head.status = excess == HeaderBlock::Excess::kUrl ? 414 : 431;
  const auto fields = header_list_.from(head);
  header_list_.set_copied(true);
  nghttp2_submit_response(session_.get(), stream.id, fields.data(), fields.size(), nullptr);
  stream.head_sent = stream.out_ended = true;
}

void H2Codec::refuse_malformed(Stream& stream) {
  count_misbehaviour();
  submit_reset(stream, NGHTTP2_PROTOCOL_ERROR);
  if (!std::exchange(stream.muted, true)) {
    emit_stream_error(stream.id, StreamErrorKind::kProtocol, NGHTTP2_PROTOCOL_ERROR);
  }
}

// A peer that makes us reset stream after stream costs as much as one that does it itself.
void H2Codec::count_misbehaviour() {
  if (++misbehaviours_ <= limits_.reset_burst_max) return;
  nghttp2_session_terminate_session(session_.get(), NGHTTP2_ENHANCE_YOUR_CALM);
}

void H2Codec::on_stream_closed(StreamId id, uint32_t error_code) {
  Stream* stream = find(id);
  if (stream == nullptr) return;
  const bool muted = stream->muted;
  const bool ended_well = error_code == NGHTTP2_NO_ERROR && stream->peer_ended;
  const bool reset_by_us = stream->reset_sent;
  release_stream(id);
  if (muted || ended_well) return;
  StreamErrorKind kind = StreamErrorKind::kPeerReset;
  if (reset_by_us) {
    kind = StreamErrorKind::kProtocol;
  } else if (error_code == NGHTTP2_REFUSED_STREAM) {
    kind = StreamErrorKind::kRefused;
  }
  if (in_receive_) {
    emit_stream_error(id, kind, error_code);
  } else {
    late_events_.push_back({id, false, kind, error_code});
  }
}

}  // namespace remora::http
