// The sending half of H1Codec, and the end of an exchange.
#include <algorithm>
#include <limits>
#include <utility>

#include "sidecar/http/h1_codec.h"

namespace remora::http {
namespace {

bool allows_body(int status) { return status / 100 != 1 && status != 204 && status != 304; }

// RFC 9110 section 8.6: a request of these methods without content says so.
bool expects_content(std::string_view method) {
  return method == "POST" || method == "PUT" || method == "PATCH";
}

}  // namespace

StreamId H1Codec::open_exchange() {
  stream_id_ = stream_id_ == std::numeric_limits<StreamId>::max() ? 1 : stream_id_ + 1;
  exchange_open_ = true;
  unconsumed_ = 0;
  informational_responses_ = 0;
  above_high_ = false;
  return stream_id_;
}

bool H1Codec::can_open() const {
  return !is_server() && !exchange_open_ && keep_alive_ && !draining_ && !eof_ && !closing_ &&
         !failed_ && unparsed_.empty();
}

Result<StreamId> H1Codec::send_request(const RequestHead& head, bool end_stream) {
  if (!can_open()) {
    return make_error(ErrorCode::kUnavailable, ErrorSource::kUpstream,
                      "connection takes no further request", true);
  }
  const StreamId id = open_exchange();
  receiving_ = Receiving::kHead;
  scanner_.reset();
  request_is_head_ = head.method == "HEAD";
  request_is_connect_ = head.method == "CONNECT";
  request_has_upgrade_ = !head.upgrade.empty();

  H1WriteOptions options;
  options.content_length = head.content_length;
  if (!end_stream) {
    options.body = head.content_length ? BodyFraming::kLength : BodyFraming::kChunked;
  } else if (!head.content_length && expects_content(head.method)) {
    options.content_length = 0;
  }
  send_framing_ = options.body;
  send_remaining_ = options.body == BodyFraming::kLength ? *head.content_length : 0;
  sending_ = end_stream ? Sending::kComplete : Sending::kBody;
  request_begins_at_ = wrote_bytes_ + out_.size();
  write_request_head(head, options, &out_);
  return id;
}

void H1Codec::send_informational(StreamId id, const ResponseHead& head) {
  // RFC 9110 section 15.2: never to an HTTP/1.0 client.
  if (!is_current(id) || !is_server() || sending_ != Sending::kHead || peer_is_http10_) return;
  write_response_head(head, {}, &out_);
}

// Makes room for a reply to a request that could not be read.
void H1Codec::open_error_exchange() {
  if (exchange_open_ || closing_ || !is_server()) return;
  stream_id_ = kErrorStream;
  exchange_open_ = true;
  receiving_ = Receiving::kDiscard;
  sending_ = Sending::kHead;
  request_is_head_ = request_is_connect_ = peer_is_http10_ = false;
  unparsed_.clear();
}

H1WriteOptions H1Codec::choose_response_framing(const ResponseHead& head, bool end_stream) {
  H1WriteOptions options;
  const bool bodiless = request_is_head_ || !allows_body(head.status);
  if (head.status / 100 != 1 && head.status != 204) options.content_length = head.content_length;
  if (!bodiless) {
    if (end_stream) {
      if (!options.content_length) options.content_length = 0;
    } else if (head.content_length) {
      options.body = BodyFraming::kLength;
    } else {
      options.body = peer_is_http10_ ? BodyFraming::kUntilClose : BodyFraming::kChunked;
    }
  }
  if (ending_ || draining_ || eof_ || failed_ || options.body == BodyFraming::kUntilClose ||
      receiving_ != Receiving::kComplete || request_is_connect_) {
    keep_alive_ = false;
  }
  if (!keep_alive_) {
    options.connection = ConnectionOption::kClose;
  } else if (peer_is_http10_) {
    options.connection = ConnectionOption::kKeepAlive;
  }
  return options;
}

void H1Codec::send_response(StreamId id, const ResponseHead& head, bool end_stream) {
  if (id == kErrorStream) open_error_exchange();
  if (!is_current(id) || !is_server() || sending_ != Sending::kHead) return;
  const bool is_connected = request_is_connect_ && head.status / 100 == 2;
  if (head.status == 101 || is_connected) {
    if (receiving_ != Receiving::kComplete) {
      reset(id);
      return;
    }
    keep_alive_ = false;
    write_response_head(head, {}, &out_);
    sending_ = Sending::kRaw;
    receiving_ = eof_ ? Receiving::kComplete : Receiving::kRaw;
    return;
  }
  const H1WriteOptions options = choose_response_framing(head, end_stream);
  write_response_head(head, options, &out_);
  send_framing_ = options.body;
  send_remaining_ = options.body == BodyFraming::kLength ? *head.content_length : 0;
  sending_ = Sending::kBody;
  note_queued();
  if (end_stream) complete_sending();
}

void H1Codec::send_data(StreamId id, std::span<const uint8_t> bytes, bool end) {
  if (!is_current(id)) return;
  std::string_view text = as_text(bytes);
  if (sending_ == Sending::kRaw) {
    if (raw_send_ended_) return;
    out_.append(text);
    note_queued();
    raw_send_ended_ = end;
    finish_exchange_if_complete();
    return;
  }
  if (sending_ != Sending::kBody) return;
  switch (send_framing_) {
    case BodyFraming::kNone:  // the answer to HEAD, 204, 304
      break;
    case BodyFraming::kLength:
      // More than was announced would be read as the next message.
      text = text.substr(0, static_cast<size_t>(std::min<uint64_t>(text.size(), send_remaining_)));
      send_remaining_ -= text.size();
      out_.append(text);
      break;
    case BodyFraming::kChunked:
      if (!text.empty()) write_chunk(text, &out_);
      break;
    case BodyFraming::kUntilClose:
      out_.append(text);
      break;
  }
  note_queued();
  if (end) {
    if (send_framing_ == BodyFraming::kChunked) write_last_chunk({}, &out_);
    complete_sending();
  }
}

void H1Codec::send_trailers(StreamId id, const HeaderMap& trailers) {
  if (!is_current(id) || sending_ != Sending::kBody) return;
  if (send_framing_ == BodyFraming::kChunked) write_last_chunk(trailers, &out_);
  complete_sending();
}

void H1Codec::complete_sending() {
  // Less than was announced: only the end of the connection can tell the peer so.
  if (send_framing_ == BodyFraming::kLength && send_remaining_ > 0) {
    close_exchange();
    return;
  }
  sending_ = Sending::kComplete;
  // RFC 9112 section 9.6: the rest of the request will not be read, so the connection must end.
  if (is_server() && receiving_ != Receiving::kComplete) {
    close_exchange();
    return;
  }
  finish_exchange_if_complete();
}

void H1Codec::finish_exchange_if_complete() {
  if (!exchange_open_ || receiving_ != Receiving::kComplete) return;
  if (sending_ == Sending::kRaw) {
    if (raw_send_ended_) close_exchange();
    return;
  }
  if (sending_ != Sending::kComplete) {
    // Client role: nobody waits for the rest of a request that has been answered, and the peer may
    // close at any moment.
    if (!is_server()) close_exchange();
    return;
  }
  if (!keep_alive_) {
    close_exchange();
    return;
  }
  exchange_open_ = false;
  receiving_ = Receiving::kHead;
  sending_ = Sending::kHead;
  unconsumed_ = 0;
}

void H1Codec::close_exchange() {
  exchange_open_ = false;
  closing_ = true;
  keep_alive_ = false;
  receiving_ = Receiving::kDiscard;
  unconsumed_ = 0;
}

void H1Codec::reset(StreamId id) {
  if (!is_current(id)) return;
  close_exchange();
  if (!is_server()) out_.clear();
}

void H1Codec::consume(StreamId id, size_t n) {
  if (is_current(id)) unconsumed_ -= std::min(n, unconsumed_);
}

size_t H1Codec::buffered(StreamId id) const { return is_current(id) ? out_.size() : 0; }

void H1Codec::note_queued() {
  if (out_.size() > kStreamHighWatermarkBytes) above_high_ = true;
}

void H1Codec::wrote(size_t n) {
  out_.consume(n);
  wrote_bytes_ += n;
  if (above_high_ && out_.size() < kStreamLowWatermarkBytes) {
    above_high_ = false;
    if (exchange_open_) events_.on_drained(stream_id_);
  }
}

bool H1Codec::close_after_flush() const {
  if (closing_ || failed_) return true;
  if (exchange_open_ || has_unparsed()) return false;
  return eof_ || (draining_ && unparsed_.empty());
}

bool H1Codec::shutdown_write_after_flush() const { return raw_send_ended_; }

}  // namespace remora::http
