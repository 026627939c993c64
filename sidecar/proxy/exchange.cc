#include "sidecar/proxy/exchange.h"

#include <algorithm>
#include <utility>

#include "sidecar/base/log.h"
#include "sidecar/proxy/error_reply.h"

namespace remora {
namespace {

using std::chrono::milliseconds;

// After a connection broke with a request on it, before the next try: long enough for the agent's
// death, if that is what it was, to be seen, so that the retry does not meet the dying process.
constexpr milliseconds kAfterResetDelay{5};
// Between tries to reach an agent that refuses connections though nobody has said it is down.
constexpr milliseconds kRefusedDelayMin{20};
constexpr milliseconds kRefusedDelayMax{500};
// The proxy's tick is coarse; a deadline nearer than this gets a timer of its own.
constexpr milliseconds kPreciseDeadlineBelow{2000};

bool has_type(const http::ResponseHead& head, std::string_view prefix) {
  const auto type = head.headers.find("content-type");
  return type && type->starts_with(prefix);
}

bool is_websocket(const http::ResponseHead& head) {
  return head.status == 101 && http::iequals(head.upgrade, "websocket");
}

}  // namespace

Exchange::Exchange(ProxyContext& context, ExchangeHost& host, http::StreamId id,
                   http::RequestHead request)
    : context_(context),
      host_(host),
      id_(id),
      request_(std::move(request)),
      filters_(context.filters) {
  list_index = context_.exchanges.size();
  context_.exchanges.push_back(this);
  info_.listener = context_.listener_name;
  info_.peer = host_.peer();
  info_.began_at = waiting_since_ = context_.loop.now();
}

Exchange::~Exchange() {
  if (phase_ != Phase::kDone) on_downstream_gone();
}

void Exchange::begin(bool end_stream) {
  request_ended_ = end_stream;
  ++context_.counters.requests;
  if (UpgradeHandshake::is_needed(request_)) {
    handshake_ = std::make_unique<UpgradeHandshake>(request_);
  }
  route_ = context_.router.route(request_);
  if (!run_request_filters()) return;
  dispatch();
}

bool Exchange::run_request_filters() {
  for (const auto& filter : *filters_) {
    ++filters_entered_;
    if (filter->on_request_head(*this) == Verdict::kReply) return false;
  }
  return true;
}

// Sends the request on its way, now or once there is an agent to send it to.
void Exchange::dispatch() {
  if (!context_.gate.is_open()) {
    hold(Duration::zero());
    return;
  }
  phase_ = Phase::kAwaitingUpstream;
  if (UpstreamConnection* ready = context_.pool.acquire(route_.upstream, *this)) open_on(*ready);
}

// Waits for the gate to open; with retry_after, also tries again by itself after that time.
void Exchange::hold(Duration retry_after) {
  phase_ = Phase::kHeld;
  context_.gate.wait(*this);
  if (retry_after > Duration::zero()) {
    retry_timer_ = context_.loop.add_timer(retry_after, [this] {
      leave_hold();
      dispatch();
    });
  }
}

void Exchange::leave_hold() {
  context_.gate.leave(*this);
  retry_timer_.cancel();
}

void Exchange::on_gate_open() {
  retry_timer_.cancel();
  hold_rounds_ = 0;
  dispatch();
}

void Exchange::on_upstream_connect_failed(const Error& error) {
  ++context_.counters.connect_failures;
  if (context_.exchange_options.is_outbound) {
    return fail(http::Problem::kServerUnreachable, error.message);
  }
  // It was not the idle connection that had ended but the agent, with the request in its hands.
  if (std::exchange(free_retry_unsettled_, false) && !count_replay()) return;
  const auto delay = std::min<Duration>(kRefusedDelayMax, kRefusedDelayMin * (1 << hold_rounds_));
  hold_rounds_ = std::min(hold_rounds_ + 1, 5U);
  hold(delay);
}

void Exchange::open_on(UpstreamConnection& connection) {
  const bool has_body = !request_ended_ || !kept_body_.empty() || trailers_arena_;
  const Result<http::StreamId> stream = connection.open(request_, !has_body, *this);
  if (!stream) {
    hold(kRefusedDelayMin);
    return;
  }
  connection_ = &connection;
  stream_ = *stream;
  free_retry_unsettled_ = false;
  phase_ = Phase::kInAgent;
  sent_at_ = context_.loop.now();
  info_.held += sent_at_ - waiting_since_;
  if (!has_body) return;
  const bool ends_with_body = request_ended_ && !trailers_arena_;
  if (!kept_body_.empty() || ends_with_body) {
    connection_->send_data(stream_, as_bytes(kept_body_.view()), ends_with_body);
    context_.counters.bytes_to_agent += kept_body_.size();
  }
  if (request_ended_ && trailers_arena_) connection_->send_trailers(stream_, request_trailers_);
  if (kept_body_.size() > context_.exchange_options.replay_body_bytes_max) drop_kept();
  give_back_request_bytes();
}

void Exchange::keep(std::span<const uint8_t> bytes) {
  if (!keeping_) return;
  const ExchangeOptions& options = context_.exchange_options;
  const bool too_much = kept_body_.size() + bytes.size() > options.replay_body_bytes_max ||
                        context_.replay_bytes + bytes.size() > options.replay_bytes_total_max;
  // Before a stream is open the bytes have nowhere else to be; flow control bounds them then.
  if (too_much && connection_ != nullptr) {
    drop_kept();
    return;
  }
  kept_body_.append(bytes);
  context_.replay_bytes += bytes.size();
}

void Exchange::drop_kept() {
  context_.replay_bytes -= kept_body_.size();
  kept_body_.clear();
  keeping_ = false;
}

void Exchange::on_request_data(std::span<const uint8_t> bytes) {
  if (phase_ == Phase::kDone) {
    host_.consume(id_, bytes.size());
    return;
  }
  info_.request_body_bytes += bytes.size();
  for (const auto& filter : *filters_) {
    if (filter->on_request_data(*this, bytes) == Verdict::kReply) return;
  }
  request_unconsumed_ += bytes.size();
  keep(bytes);
  if (connection_ != nullptr) {
    connection_->send_data(stream_, bytes, false);
    context_.counters.bytes_to_agent += bytes.size();
    give_back_request_bytes();
  }
}

// Lets the caller send more, unless what it sent is still queued for the agent.
void Exchange::give_back_request_bytes() {
  if (connection_ == nullptr || request_unconsumed_ == 0) return;
  if (connection_->buffered(stream_) > http::kStreamHighWatermarkBytes) return;
  host_.consume(id_, std::exchange(request_unconsumed_, 0));
}

void Exchange::on_upstream_drained() { give_back_request_bytes(); }

void Exchange::on_request_trailers(ArenaPtr arena, http::HeaderMap trailers) {
  trailers_arena_ = std::move(arena);
  request_trailers_ = std::move(trailers);
}

void Exchange::on_request_end() {
  request_ended_ = true;
  if (connection_ == nullptr) return;
  if (trailers_arena_) {
    connection_->send_trailers(stream_, request_trailers_);
  } else {
    connection_->send_data(stream_, {}, true);
  }
}

void Exchange::on_upstream_informational(http::ResponseHead head) {
  if (phase_ == Phase::kInAgent && request_.version != http::Version::kHttp10) {
    host_.send_informational(id_, head);
  }
}

void Exchange::on_upstream_response(http::ResponseHead head, bool end) {
  if (handshake_) {
    if (const Result<void> opened = handshake_->check(head); !opened) {
      fail(http::Problem::kUpstreamProtocol, opened.error().message);
      return;
    }
  }
  phase_ = Phase::kResponding;
  drop_kept();
  deadline_timer_.cancel();
  deadline_ = MonotonicTime::max();
  info_.status = head.status;
  info_.response_began_at = context_.loop.now();
  is_event_stream_ = !head.content_length && has_type(head, "text/event-stream");
  is_stream_ = head.status == 101 || has_type(head, "text/event-stream") ||
               has_type(head, "application/grpc");
  if (is_websocket(head)) websocket_ = std::make_unique<http::WebSocketFrames>();
  for (size_t i = filters_entered_; i-- > 0;) {
    (*filters_)[i]->on_response_head(*this, head);
  }
  host_.send_response(id_, head, end);
  if (end) on_response_complete();
}

void Exchange::on_upstream_data(std::span<const uint8_t> bytes) {
  info_.response_body_bytes += bytes.size();
  context_.counters.bytes_from_agent += bytes.size();
  for (size_t i = filters_entered_; i-- > 0;) (*filters_)[i]->on_response_data(*this, bytes);
  if (websocket_) websocket_->receive(bytes);
  host_.send_data(id_, bytes, false);
  response_unconsumed_ += bytes.size();
  on_downstream_drained();
}

// Lets the agent send more, unless what it sent is still queued for the caller.
void Exchange::on_downstream_drained() {
  if (connection_ == nullptr || response_unconsumed_ == 0) return;
  if (host_.buffered(id_) > http::kStreamHighWatermarkBytes) return;
  connection_->consume(stream_, std::exchange(response_unconsumed_, 0));
}

void Exchange::on_upstream_trailers(ArenaPtr /*arena*/, http::HeaderMap trailers) {
  trailers_sent_ = true;
  host_.send_trailers(id_, trailers);
}

void Exchange::on_upstream_end() {
  if (!trailers_sent_) host_.send_data(id_, {}, true);
  on_response_complete();
}

void Exchange::on_response_complete() {
  // The agent has answered without waiting for the whole request: the rest is not sent.
  if (!request_ended_) connection_->stop_sending(stream_);
  connection_ = nullptr;
  finish(true);
}

void Exchange::on_upstream_failed(http::StreamErrorKind kind, const Error& error) {
  const bool reused = connection_ != nullptr && connection_->reused();
  connection_ = nullptr;
  context_.note_lost(request_, sent_at_);
  if (phase_ == Phase::kResponding) {
    fail(http::Problem::kNone);
    return;
  }
  if (kind == http::StreamErrorKind::kProtocol) {
    fail(http::Problem::kUpstreamProtocol, error.message);
    return;
  }
  waiting_since_ = context_.loop.now();
  const bool unprocessed = kind == http::StreamErrorKind::kRefused;
  const bool stale = reused && route_.repeatable;
  if (keeping_ && (unprocessed || stale) && free_retries_ < free_retries_max) {
    ++free_retries_;
    if (stale && !context_.gate.is_open() && !count_replay()) return;
    free_retry_unsettled_ = stale && context_.gate.is_open();
    dispatch();
  } else if (context_.exchange_options.is_outbound) {
    fail(http::Problem::kServerLost, error.message);
  } else if (!keeping_ || !(route_.repeatable || unprocessed)) {
    fail(http::Problem::kOutcomeUnknown, error.message);
  } else if (count_replay()) {
    hold(kAfterResetDelay);
  }
}

// Sending it once more is allowed; or it is answered, and false comes back.
bool Exchange::count_replay() {
  const uint32_t replays_max = context_.exchange_options.replays_max;
  if (info_.replays >= replays_max) {
    fail(replays_max == 0 ? http::Problem::kOutcomeUnknown : http::Problem::kReplaysExhausted);
    return false;
  }
  ++info_.replays;
  ++context_.counters.replays;
  return true;
}

void Exchange::set_deadline(MonotonicTime at) {
  if (at >= deadline_) return;
  deadline_ = at;
  const Duration left = at - context_.loop.now();
  if (left < kPreciseDeadlineBelow) {
    deadline_timer_ =
        context_.loop.add_timer(std::max(left, Duration::zero()), [this] { on_tick(deadline_); });
  }
}

void Exchange::on_tick(MonotonicTime now) {
  if (phase_ == Phase::kResponding || phase_ == Phase::kDone) return;
  if (now >= deadline_) {
    fail(http::Problem::kDeadline);
  } else if (phase_ != Phase::kInAgent &&
             now - waiting_since_ >= context_.exchange_options.hold_wait) {
    fail(http::Problem::kAgentUnavailable);
  }
}

void Exchange::fail(http::Problem problem, std::string_view detail) {
  if (phase_ == Phase::kDone) return;
  const bool responding = phase_ == Phase::kResponding;
  leave_upstream();
  if (problem == http::Problem::kOverloaded) ++context_.counters.rejected_overload;
  info_.problem = problem;
  if (responding) {
    host_.abort(id_);
  } else {
    const bool is_head = request_.method == "HEAD";
    const ErrorReply reply = make_error_reply(problem, detail, route_.is_grpc, is_head);
    info_.status = reply.head.status;
    info_.response_began_at = context_.loop.now();
    host_.send_response(id_, reply.head, reply.body.empty());
    if (!reply.body.empty()) host_.send_data(id_, as_bytes(reply.body), true);
  }
  finish(false);
}

void Exchange::end_for_drain() {
  if (phase_ != Phase::kResponding) {
    fail(phase_ == Phase::kInAgent ? http::Problem::kOutcomeUnknown : http::Problem::kDraining);
    return;
  }
  leave_upstream();
  info_.problem = http::Problem::kDraining;
  if (route_.is_grpc) {
    const http::ResponseHead status =
        make_error_reply(http::Problem::kDraining, {}, /*is_grpc=*/true, false).head;
    http::HeaderMap trailers;
    for (const std::string_view name : {"grpc-status", "grpc-message"}) {
      if (const auto value = status.headers.find(name)) trailers.add(name, *value);
    }
    host_.send_trailers(id_, trailers);
  } else if (is_event_stream_) {
    host_.send_data(id_, {}, true);
  } else if (websocket_ && websocket_->takes_control_frame()) {
    host_.send_data(id_, http::websocket_close_frame(http::kWebSocketGoingAway), true);
  } else {
    host_.abort(id_);
  }
  finish(false);
}

void Exchange::on_downstream_gone() {
  if (phase_ == Phase::kDone) return;
  leave_upstream();
  finish(false);
}

// Lets go of everything on the agent's side, wherever the exchange stands.
void Exchange::leave_upstream() {
  leave_hold();
  context_.pool.leave(*this);
  if (connection_ != nullptr) std::exchange(connection_, nullptr)->abandon(stream_);
}

void Exchange::finish(bool complete) {
  info_.complete = complete;
  phase_ = Phase::kDone;
  info_.ended_at = context_.loop.now();
  deadline_timer_.cancel();
  drop_kept();
  for (size_t i = filters_entered_; i-- > 0;) (*filters_)[i]->on_end(*this);
  context_.exchanges[list_index] = context_.exchanges.back();
  context_.exchanges[list_index]->list_index = list_index;
  context_.exchanges.pop_back();
  host_.on_exchange_done(id_);
}

}  // namespace remora
