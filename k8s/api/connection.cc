#include "k8s/api/connection.h"

#include <utility>

#include "k8s/api/exchange.h"
#include "k8s/api/pool.h"
#include "sidecar/base/buffer.h"

namespace remora::k8s {
namespace {

std::chrono::milliseconds ms(int n) { return std::chrono::milliseconds(n); }

Error gone(const char* why) {
  return make_error(ErrorCode::kReset, ErrorSource::kUpstream, why, true).error();
}

}  // namespace

Connection::Connection(Loop& loop, Pool& pool, std::unique_ptr<Transport> transport)
    : loop_(loop),
      pool_(pool),
      transport_(std::move(transport)),
      heard_at_(loop.now()),
      idle_since_(loop.now()) {}

Connection::~Connection() = default;

void Connection::on_connected() {
  if (dead_) return;
  const bool h2 = transport_->application_protocol() == "h2";
  codec_ = h2 ? http::make_h2_codec(http::Role::kClient, *this, {})
              : http::make_h1_codec(http::Role::kClient, *this, {});
  heard_at_ = idle_since_ = loop_.now();
  life_ = loop_.add_timer(ms(api_life_check_ms), [this] { check_life(); });
  flush();  // the preface
  pool_.on_connected(*this);
}

void Connection::send(Exchange& exchange) {
  const ApiRequest& request = exchange.request();
  if (request.may_send && !request.may_send()) {
    return exchange.fail(ErrorCode::kCancelled, "not sent: the right to write has ended");
  }
  http::RequestHead head;
  head.method = request.method;
  head.scheme = "https";
  head.authority = pool_.server().name;
  head.path = request.path;
  head.headers.add("accept", "application/json");
  head.headers.add("user-agent", "remora");
  const std::string authorization = "Bearer " + pool_.token();
  if (authorization.size() > 7) head.headers.add("authorization", authorization);
  const bool has_body = !request.body.empty();
  if (has_body) {
    head.headers.add("content-type", request.content_type);
    head.content_length = request.body.size();
  }
  const Result<http::StreamId> stream = codec_->send_request(head, !has_body);
  if (!stream) return exchange.fail(ErrorCode::kInvalidArgument, stream.error().message);
  streams_[*stream] = &exchange;
  exchange.on_sent(*this, *stream);
  if (has_body) codec_->send_data(*stream, as_bytes(request.body), true);
  flush();
}

void Connection::abandon(http::StreamId stream) {
  if (streams_.erase(stream) == 0 || dead_) return;
  codec_->reset(stream);
  // It may be called from inside an event of the codec.
  loop_.post([this, &pool = pool_, alive = pool_.alive()] {
    if (*alive && pool.holds(*this)) after_event();
  });
}

void Connection::doubt() {
  if (dead_ || !is_h2() || pinged_) return;
  pinged_ = true;
  pinged_at_ = loop_.now();
  codec_->ping();
  flush();
}

void Connection::check_life() {
  const MonotonicTime now = loop_.now();
  if (pinged_ && now - pinged_at_ >= ms(api_pong_ms_max)) {
    return die(ErrorCode::kUnavailable, gone("the API server gives no sign of life"));
  }
  if (streams_.empty() && now - idle_since_ >= ms(api_idle_ms_max)) {
    return die(ErrorCode::kReset, gone("idle"));
  }
  life_ = loop_.add_timer(ms(api_life_check_ms), [this] { check_life(); });
  if (!streams_.empty() && now - heard_at_ >= ms(api_ping_after_ms)) doubt();
}

void Connection::on_read(std::span<const uint8_t> bytes) {
  if (dead_) return;
  heard_at_ = loop_.now();
  pinged_ = false;
  if (const Result<void> received = codec_->receive(bytes); !received) {
    flush();
    return die(ErrorCode::kProtocol, received.error());
  }
  after_event();
}

void Connection::on_read_eof() {
  if (dead_) return;
  if (codec_) codec_->receive_eof();
  die(ErrorCode::kReset, gone("the connection ended before the answer did"));
}

void Connection::on_writable() {
  if (!dead_) after_event();
}

void Connection::flush() {
  while (!dead_) {
    const std::string_view output = codec_->pending_output();
    if (output.empty()) return;
    const Result<size_t> taken = transport_->write(as_bytes(output));
    if (!taken) return die(ErrorCode::kUnavailable, taken.error());
    codec_->wrote(*taken);
    if (*taken < output.size()) return;
  }
}

void Connection::after_event() {
  flush();
  if (dead_) return;
  if (codec_->wants_read() == read_paused_) {
    read_paused_ = !read_paused_;
    transport_->set_read_paused(read_paused_);
  }
  const bool useless = codec_->close_after_flush() || (draining_ && streams_.empty());
  if (useless && codec_->pending_output().empty()) {
    return die(ErrorCode::kReset, gone("the server has closed the connection"));
  }
  if (codec_->can_open()) pool_.pump_soon();
}

void Connection::on_response(http::StreamId id, http::ResponseHead head, bool end) {
  if (Exchange* exchange = find(id)) exchange->on_head(head);
  if (end) on_end(id);
}

void Connection::on_data(http::StreamId id, std::span<const uint8_t> bytes) {
  codec_->consume(id, bytes.size());
  if (Exchange* exchange = find(id)) exchange->on_data(bytes);
}

void Connection::on_end(http::StreamId id) {
  ++answers_;
  if (Exchange* exchange = take(id)) exchange->on_end();
}

void Connection::on_stream_error(http::StreamId id, http::StreamErrorKind kind,
                                 const Error& error) {
  Exchange* exchange = take(id);
  if (exchange == nullptr) return;
  const bool refused = kind == http::StreamErrorKind::kRefused;
  exchange->on_lost(error, refused || may_repeat(*exchange));
}

// A kept connection that the server gave up as the question left (RFC 9112 section 9.3.1).
bool Connection::may_repeat(const Exchange& exchange) const {
  return answers_ > 0 && exchange.request().method == "GET" && !exchange.answered();
}

Exchange* Connection::find(http::StreamId id) const {
  const auto found = streams_.find(id);
  return found == streams_.end() ? nullptr : found->second;
}

Exchange* Connection::take(http::StreamId id) {
  auto node = streams_.extract(id);
  if (streams_.empty()) idle_since_ = loop_.now();
  return node.empty() ? nullptr : node.mapped();
}

void Connection::die(ErrorCode code, const Error& why) {
  if (std::exchange(dead_, true)) return;
  life_.cancel();
  Error error = why;
  error.code = code;
  const bool connected = codec_ != nullptr;
  for (const auto& [id, exchange] : std::exchange(streams_, {})) {
    exchange->on_lost(error, may_repeat(*exchange));
  }
  pool_.on_dead(*this, connected, error);
}

}  // namespace remora::k8s
