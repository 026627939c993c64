#include "sidecar/proxy/session.h"

#include <algorithm>
#include <utility>

#include "sidecar/proxy/error_reply.h"

namespace remora {
namespace {

http::Problem problem_of(const Error& error) {
  if (error.code != ErrorCode::kLimitExceeded) return http::Problem::kBadRequest;
  return error.message.starts_with("url") ? http::Problem::kUrlTooLong
                                          : http::Problem::kHeadersTooLarge;
}

}  // namespace

Session::Session(ProxyContext& context, ConnectionOwner& owner,
                 std::unique_ptr<Transport> transport, http::Version version,
                 const http::CodecLimits& limits, const ConnectionTimeouts& timeouts)
    : context_(context),
      owner_(owner),
      version_(version),
      timeouts_(timeouts),
      transport_(std::move(transport)),
      codec_(version == http::Version::kHttp2
                 ? http::make_h2_codec(http::Role::kServer, *this, limits)
                 : http::make_h1_codec(http::Role::kServer, *this, limits)),
      last_read_at_(context.loop.now()),
      idle_since_(last_read_at_) {}

void Session::start() {
  transport_->start(*this);
  schedule_flush();  // HTTP/2 speaks first: SETTINGS
}

void Session::resume(std::span<const uint8_t> first_bytes) {
  transport_->set_events(*this);
  receive(first_bytes);
}

void Session::on_read(std::span<const uint8_t> bytes) {
  if (closed_ || lingering_) return;
  receive(bytes);
}

void Session::receive(std::span<const uint8_t> bytes) {
  last_read_at_ = context_.loop.now();
  if (Result<void> received = codec_->receive(bytes); !received) {
    on_protocol_error(received.error());
  }
  head_in_progress_ =
      exchanges_.empty() && version_ != http::Version::kHttp2 && !bytes.empty() && codec_->idle();
  schedule_flush();
}

// The codec takes no more input. HTTP/2 says why in its GOAWAY; an HTTP/1.1 caller is answered,
// whether the fault was in a head or in the body of a request already under way.
void Session::on_protocol_error(const Error& error) {
  const http::Problem problem = problem_of(error);
  if (version_ == http::Version::kHttp2) return;
  rest_unread_ = true;
  if (!exchanges_.empty()) {
    exchanges_.front()->fail(problem, error.message);
    return;
  }
  const ErrorReply reply = make_error_reply(problem, error.message, false, false);
  codec_->send_response(http::kErrorStream, reply.head, false);
  codec_->send_data(http::kErrorStream, as_bytes(reply.body), true);
}

void Session::on_read_eof() {
  if (closed_) return;
  peer_ended_ = true;
  codec_->receive_eof();
  if (lingering_ || exchanges_.empty()) {
    close();
  } else {
    schedule_flush();
  }
}

void Session::on_request(http::StreamId id, http::RequestHead head, bool end) {
  served_any_ = true;
  if (context_.leaving_since) codec_->announce_end();
  exchanges_.push_back(std::make_unique<Exchange>(context_, *this, id, std::move(head)));
  exchanges_.back()->begin(end);
}

void Session::on_data(http::StreamId id, std::span<const uint8_t> bytes) {
  if (Exchange* exchange = find(id)) {
    exchange->on_request_data(bytes);
  } else {
    codec_->consume(id, bytes.size());  // the rest of a request that has been answered
  }
}

void Session::on_trailers(http::StreamId id, ArenaPtr arena, http::HeaderMap trailers) {
  if (Exchange* exchange = find(id)) {
    exchange->on_request_trailers(std::move(arena), std::move(trailers));
  }
}

void Session::on_end(http::StreamId id) {
  if (Exchange* exchange = find(id)) exchange->on_request_end();
}

void Session::on_stream_error(http::StreamId id, http::StreamErrorKind /*kind*/,
                              const Error& /*error*/) {
  if (Exchange* exchange = find(id)) exchange->on_downstream_gone();
}

void Session::on_drained(http::StreamId id) {
  if (Exchange* exchange = find(id)) exchange->on_downstream_drained();
}

void Session::send_informational(http::StreamId id, const http::ResponseHead& head) {
  codec_->send_informational(id, head);
  schedule_flush();
}

void Session::send_response(http::StreamId id, const http::ResponseHead& head, bool end) {
  codec_->send_response(id, head, end);
  schedule_flush();
}

void Session::send_data(http::StreamId id, std::span<const uint8_t> bytes, bool end) {
  codec_->send_data(id, bytes, end);
  schedule_flush();
}

void Session::send_trailers(http::StreamId id, const http::HeaderMap& trailers) {
  codec_->send_trailers(id, trailers);
  schedule_flush();
}

void Session::abort(http::StreamId id) {
  codec_->reset(id);
  schedule_flush();
}

void Session::consume(http::StreamId id, size_t n) {
  codec_->consume(id, n);
  schedule_flush();
}

void Session::on_exchange_done(http::StreamId id) {
  const auto it = std::ranges::find(exchanges_, id, [](const auto& e) { return e->id(); });
  if (it == exchanges_.end()) return;
  if (!(*it)->request_ended() && version_ != http::Version::kHttp2) rest_unread_ = true;
  std::swap(*it, exchanges_.back());
  context_.loop.defer_delete(std::move(exchanges_.back()));
  exchanges_.pop_back();
  if (exchanges_.empty()) idle_since_ = context_.loop.now();
  schedule_flush();
}

Exchange* Session::find(http::StreamId id) {
  const auto it = std::ranges::find(exchanges_, id, [](const auto& e) { return e->id(); });
  return it == exchanges_.end() ? nullptr : it->get();
}

void Session::schedule_flush() {
  if (flush_posted_ || closed_) return;
  flush_posted_ = true;
  context_.loop.post([this] {
    flush_posted_ = false;
    flush();
  });
}

void Session::flush() {
  if (closed_) return;
  while (true) {
    const std::string_view output = codec_->pending_output();
    if (output.empty()) break;
    const Result<size_t> taken = transport_->write(as_bytes(output));
    if (!taken) {
      close();
      return;
    }
    codec_->wrote(*taken);
    if (*taken < output.size()) {
      // A peer that does not read is not read from for ever either.
      transport_->set_read_paused(!codec_->wants_read());
      return;
    }
  }
  after_flush();
}

// Everything is written: what does the connection do next?
void Session::after_flush() {
  if (codec_->close_after_flush() || (peer_ended_ && exchanges_.empty())) {
    finish_or_linger();
    return;
  }
  if (codec_->shutdown_write_after_flush() && !write_shut_) {
    write_shut_ = true;
    transport_->shutdown_write();
  }
  if (exchanges_.empty() && codec_->has_unparsed()) {
    receive({});
    return;
  }
  transport_->set_read_paused(!codec_->wants_read());
}

void Session::finish_or_linger() {
  // While others are told to go, a caller who was not may have sent something meanwhile.
  const bool may_cross = ends_idle_ || context_.leaving_since;
  if (peer_ended_ || !(rest_unread_ || codec_->has_unparsed() || may_cross)) {
    close();
    return;
  }
  if (lingering_) return;
  lingering_ = true;
  idle_since_ = context_.loop.now();
  transport_->shutdown_write();
  transport_->set_read_paused(false);
}

// While the agent works for others it can answer this caller, too. Of a connection that stays
// silent after that nobody can tell whether something is on its way (RFC 9112 section 9.5).
void Session::end_if_silent(MonotonicTime now) {
  if (closed_ || lingering_ || !context_.exchanges.empty() || !context_.leaving_since) return;
  if (!codec_->pending_output().empty()) return;  // a caller who reads slowly
  const MonotonicTime silent_since =
      std::max({idle_since_, last_read_at_, *context_.leaving_since});
  if (now - silent_since >= std::chrono::milliseconds(drain_silence_ms_max)) end_idle();
}

void Session::end_idle() {
  if (transport_->has_unread()) return;  // the loop is about to hand it over
  ends_idle_ = true;
  codec_->start_drain();
  flush();
  if (!closed_) finish_or_linger();
}

void Session::on_tick(MonotonicTime now) {
  if (closed_) return;
  if (lingering_) {
    const int limit_ms = rest_unread_ ? linger_ms_max : end_linger_ms_max;
    if (now - idle_since_ > std::chrono::milliseconds(limit_ms)) close();
    return;
  }
  if (context_.draining) end_if_silent(now);
  if (closed_ || lingering_) return;
  if (exchanges_.empty()) {
    if (head_in_progress_ && now - idle_since_ > timeouts_.headers &&
        now - last_read_at_ > Duration::zero()) {
      const ErrorReply reply = make_error_reply(http::Problem::kRequestTimeout, {}, false, false);
      rest_unread_ = true;
      codec_->send_response(http::kErrorStream, reply.head, false);
      codec_->send_data(http::kErrorStream, as_bytes(reply.body), true);
      schedule_flush();
    } else if (now - std::max(idle_since_, last_read_at_) >
               (served_any_ ? timeouts_.idle : std::min(timeouts_.idle, timeouts_.headers))) {
      end_idle();
    }
    return;
  }
  // By index: an exchange that fails leaves the list.
  for (size_t i = exchanges_.size(); i-- > 0;) {
    if (i >= exchanges_.size()) continue;
    Exchange& exchange = *exchanges_[i];
    if (exchange.awaits_caller() && now - last_read_at_ > timeouts_.headers) {
      exchange.fail(http::Problem::kRequestTimeout);
    } else {
      exchange.on_tick(now);
    }
  }
}

void Session::announce_end() {
  // A new HTTP/2 connection that began with GOAWAY would serve nobody.
  if (!served_any_ && version_ == http::Version::kHttp2) return;
  codec_->announce_end();
  schedule_flush();
}

void Session::start_drain() {
  announce_end();
  end_if_silent(context_.loop.now());
}

void Session::close() {
  if (closed_) return;
  closed_ = true;
  while (!exchanges_.empty()) exchanges_.back()->on_downstream_gone();
  owner_.on_connection_closed(*this);
}

}  // namespace remora
