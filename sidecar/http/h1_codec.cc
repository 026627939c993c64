#include "sidecar/http/h1_codec.h"

#include <algorithm>
#include <string>
#include <utility>

namespace remora::http {
std::unique_ptr<Codec> make_h1_codec(Role role, CodecEvents& events, const CodecLimits& limits) {
  return std::make_unique<H1Codec>(role, events, limits);
}

H1Codec::H1Codec(Role role, CodecEvents& events, const CodecLimits& limits)
    : role_(role), events_(events), limits_(limits) {}

std::string_view H1Codec::request_method() const {
  if (request_is_head_) return "HEAD";
  return request_is_connect_ ? "CONNECT" : "";
}

Result<void> H1Codec::receive(std::span<const uint8_t> bytes) {
  if (failed_ || closing_) return {};
  // Called from inside an event: the loop below goes on anyway.
  if (in_receive_) return {};
  in_receive_ = true;
  Result<size_t> taken = 0;
  if (unparsed_.empty()) {
    const std::string_view input = as_text(bytes);
    taken = process(input);
    if (taken && !closing_) unparsed_.append(input.substr(*taken));
  } else {
    unparsed_.append(bytes);
    taken = process(unparsed_.view());
    if (taken) unparsed_.consume(*taken);
  }
  in_receive_ = false;
  if (taken && unparsed_.size() > unparsed_bytes_max) {
    taken = make_error(ErrorCode::kLimitExceeded, ErrorSource::kDownstream,
                       "pipelined input is longer than the limit");
  }
  if (!taken) return fail(std::move(taken).error());
  return {};
}

Result<size_t> H1Codec::process(std::string_view input) {
  size_t taken = 0;
  blocked_ = false;
  while (taken < input.size()) {
    const std::string_view rest = input.substr(taken);
    Result<size_t> step = 0;
    switch (receiving_) {
      case Receiving::kHead:
        step = process_head(rest);
        break;
      case Receiving::kBody:
        step = process_body(rest);
        break;
      case Receiving::kTrailers:
        step = process_trailers(rest);
        break;
      case Receiving::kComplete:
        // The client role gets here only with input that no request asked for.
        if (!is_server()) keep_alive_ = false;
        blocked_ = is_server();
        return is_server() ? taken : input.size();
      case Receiving::kRaw:
        deliver(rest);
        step = rest.size();
        break;
      case Receiving::kDiscard:
        return input.size();
    }
    if (!step) return step;
    if (*step == 0) break;
    taken += *step;
  }
  return taken;
}

Result<size_t> H1Codec::process_head(std::string_view input) {
  if (!is_server() && !exchange_open_) {
    return make_error(ErrorCode::kProtocol, ErrorSource::kUpstream,
                      "bytes from an upstream that was asked nothing");
  }
  auto scanned = scanner_.scan(input);
  if (!scanned) return std::unexpected(std::move(scanned).error());
  const size_t head_size = scanned->value_or(0);
  if (auto checked = check_partial_head(head_size != 0 ? head_size : input.size()); !checked) {
    return std::unexpected(std::move(checked).error());
  }
  if (head_size == 0) return 0;
  // A peer that does not read its responses gets no further ones.
  if (is_server() && out_.size() >= kStreamHighWatermarkBytes) {
    blocked_ = true;
    scanner_.reset();
    return 0;
  }
  scanner_.reset();
  if (head_size == 2) {  // RFC 9112 section 2.2
    if (++blank_lines_ > blank_lines_max || !is_server()) {
      return make_error(ErrorCode::kProtocol, ErrorSource::kDownstream, "empty lines, no message");
    }
    return head_size;
  }
  blank_lines_ = 0;
  const std::string_view head = input.substr(0, head_size);
  auto begun = is_server() ? begin_request(head) : begin_response(head, head_size < input.size());
  if (!begun) return std::unexpected(std::move(begun).error());
  return head_size;
}

// Bounds what is kept of a head that does not end, and the size of one that has.
Result<void> H1Codec::check_partial_head(size_t bytes) const {
  constexpr size_t kMethodAndVersionBytes = 80;
  const bool in_first_line = scanner_.first_line_size() == 0;
  if (is_server() && in_first_line && bytes > limits_.url_bytes_max + kMethodAndVersionBytes) {
    return make_error(ErrorCode::kLimitExceeded, ErrorSource::kDownstream,
                      std::string(kUrlTooLongMessage));
  }
  if (bytes <= limits_.header_bytes_max) return {};
  if (is_server() && scanner_.first_line_size() > limits_.url_bytes_max + kMethodAndVersionBytes) {
    return make_error(ErrorCode::kLimitExceeded, ErrorSource::kDownstream,
                      std::string(kUrlTooLongMessage));
  }
  return make_error(ErrorCode::kLimitExceeded, ErrorSource::kDownstream,
                    "header block is longer than the limit");
}

Result<void> H1Codec::begin_request(std::string_view head) {
  RequestHead request;
  const auto framing = parse_request_head(request.arena->copy(head), limits_, &request);
  if (!framing) return std::unexpected(framing.error());

  const StreamId id = open_exchange();
  keep_alive_ = framing->keep_alive;
  peer_is_http10_ = request.version == Version::kHttp10;
  request_is_head_ = request.method == "HEAD";
  request_is_connect_ = request.method == "CONNECT";
  set_body(*framing);
  sending_ = Sending::kHead;
  events_.on_request(id, std::move(request), receiving_ == Receiving::kComplete);
  return {};
}

Result<void> H1Codec::begin_response(std::string_view head, bool more_input) {
  ResponseHead response;
  const auto framing =
      parse_response_head(response.arena->copy(head), limits_, request_method(), &response);
  if (!framing) return std::unexpected(framing.error());

  if (response.status == 101 || (request_is_connect_ && response.status / 100 == 2)) {
    return switch_to_raw(std::move(response));
  }
  if (response.status / 100 == 1) {
    if (++informational_responses_ > informational_responses_max) {
      return make_error(ErrorCode::kLimitExceeded, ErrorSource::kUpstream,
                        "more interim responses than the limit");
    }
    events_.on_informational(stream_id_, std::move(response));
    return {};
  }
  if (!framing->keep_alive) keep_alive_ = false;
  set_body(*framing);
  const bool end_stream = receiving_ == Receiving::kComplete;
  const StreamId id = stream_id_;
  if (end_stream) {
    if (more_input) keep_alive_ = false;
    finish_exchange_if_complete();
  }
  events_.on_response(id, std::move(response), end_stream);
  return {};
}

Result<void> H1Codec::switch_to_raw(ResponseHead head) {
  if (head.status == 101 && !request_has_upgrade_) {
    return make_error(ErrorCode::kProtocol, ErrorSource::kUpstream,
                      "101 answers a request that asked for no upgrade");
  }
  if (sending_ != Sending::kComplete) {
    return make_error(ErrorCode::kProtocol, ErrorSource::kUpstream,
                      "upgrade before the end of the request");
  }
  keep_alive_ = false;
  receiving_ = Receiving::kRaw;
  sending_ = Sending::kRaw;
  events_.on_response(stream_id_, std::move(head), false);
  return {};
}

void H1Codec::set_body(const H1Framing& framing) {
  body_ = framing.body;
  receive_remaining_ = framing.length;
  receiving_ = body_ == BodyFraming::kNone ? Receiving::kComplete : Receiving::kBody;
  if (body_ == BodyFraming::kChunked) chunked_.reset();
}

Result<size_t> H1Codec::process_body(std::string_view input) {
  switch (body_) {
    case BodyFraming::kLength: {
      const auto n = static_cast<size_t>(std::min<uint64_t>(input.size(), receive_remaining_));
      receive_remaining_ -= n;
      deliver(input.substr(0, n));
      if (receive_remaining_ == 0 && receiving_ == Receiving::kBody) {
        complete_receiving(n < input.size());
      }
      return n;
    }
    case BodyFraming::kChunked: {
      const auto taken = chunked_.read(as_bytes(input), *this);
      if (taken && chunked_.finished() && receiving_ == Receiving::kBody) {
        receiving_ = Receiving::kTrailers;
        scanner_.reset();
      }
      return taken;
    }
    case BodyFraming::kUntilClose:
    case BodyFraming::kNone:
      break;
  }
  deliver(input);
  return input.size();
}

void H1Codec::on_chunk_data(std::span<const uint8_t> bytes) {
  // An event for the data before may have ended the exchange.
  if (receiving_ == Receiving::kBody) deliver(as_text(bytes));
}

Result<size_t> H1Codec::process_trailers(std::string_view input) {
  auto scanned = scanner_.scan(input);
  if (!scanned) return std::unexpected(std::move(scanned).error());
  const size_t size = scanned->value_or(0);
  if (std::max(size, size == 0 ? input.size() : 0) > limits_.header_bytes_max) {
    return make_error(ErrorCode::kLimitExceeded, ErrorSource::kDownstream,
                      "trailer section is longer than the limit");
  }
  if (size == 0) return 0;
  scanner_.reset();
  if (size > 2) {
    ArenaPtr arena = take_arena();
    HeaderMap trailers;
    auto parsed = parse_trailers(arena->copy(input.substr(0, size)), limits_, &trailers);
    if (!parsed) return std::unexpected(std::move(parsed).error());
    if (!trailers.empty()) {
      events_.on_trailers(stream_id_, std::move(arena), std::move(trailers));
    }
  }
  if (receiving_ == Receiving::kTrailers) complete_receiving(size < input.size());
  return size;
}

void H1Codec::deliver(std::string_view bytes) {
  if (bytes.empty()) return;
  unconsumed_ += bytes.size();
  events_.on_data(stream_id_, as_bytes(bytes));
}

void H1Codec::complete_receiving(bool more_input) {
  receiving_ = Receiving::kComplete;
  const StreamId id = stream_id_;
  // Before on_end(), whose receiver may want to send the next request at once: bytes behind a
  // response must not become that request's answer.
  if (!is_server() && more_input) keep_alive_ = false;
  finish_exchange_if_complete();
  events_.on_end(id);
}

// The input can't be understood any more. Server role: the request in progress stays open, so that
// it can be answered; with none, kErrorStream can be.
std::unexpected<Error> H1Codec::fail(Error error) {
  error.source = is_server() ? ErrorSource::kDownstream : ErrorSource::kUpstream;
  failed_ = true;
  keep_alive_ = false;
  if (exchange_open_ && !is_server()) {
    const StreamId id = stream_id_;
    close_exchange();
    events_.on_stream_error(id, StreamErrorKind::kProtocol, error);
  }
  receiving_ = Receiving::kDiscard;
  unparsed_.clear();
  return std::unexpected(std::move(error));
}

void H1Codec::fail_stream(StreamErrorKind kind, std::string_view message) {
  const StreamId id = stream_id_;
  close_exchange();
  const Error error{ErrorCode::kReset,
                    is_server() ? ErrorSource::kDownstream : ErrorSource::kUpstream,
                    kind == StreamErrorKind::kRefused, std::string(message)};
  events_.on_stream_error(id, kind, error);
}

void H1Codec::receive_eof() {
  if (eof_ || failed_) return;
  eof_ = true;
  if (!exchange_open_) return;
  switch (receiving_) {
    case Receiving::kRaw: {
      receiving_ = Receiving::kComplete;
      const StreamId id = stream_id_;
      finish_exchange_if_complete();
      events_.on_end(id);
      return;
    }
    case Receiving::kBody:
      if (body_ == BodyFraming::kUntilClose) {
        complete_receiving(false);
        return;
      }
      [[fallthrough]];
    case Receiving::kHead:
    case Receiving::kTrailers:
      // A request none of whose bytes has left is known to be unprocessed.
      fail_stream(wrote_bytes_ <= request_begins_at_ && !is_server() ? StreamErrorKind::kRefused
                                                                     : StreamErrorKind::kPeerReset,
                  "connection closed in the middle of a message");
      return;
    case Receiving::kComplete:  // half-closed: the response can still be sent
    case Receiving::kDiscard:
      return;
  }
}

bool H1Codec::has_unparsed() const {
  if (!blocked_ || unparsed_.empty() || closing_ || failed_) return false;
  if (receiving_ == Receiving::kRaw) return true;
  return !exchange_open_ && out_.size() < kStreamHighWatermarkBytes;
}

bool H1Codec::wants_read() const {
  if (unconsumed_ >= kReceiveWindowBytes) return false;
  return !blocked_ || unparsed_.size() < pipelined_bytes_max;
}

}  // namespace remora::http
