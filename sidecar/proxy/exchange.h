// One request and its response: down the filters, to the agent, and back up.
//
// All transitions are in this class; Phase says where it stands:
//
//   kFilters -> kHeld <-> kAwaitingUpstream -> kInAgent -> kResponding -> kDone
//                 ^________________________________|
//                     the agent died; safe to send again
//
// kHeld: there is no agent, the request waits at the gate. kInAgent: sent, no response yet; the
// body is kept so that it can be sent again. kResponding: the response head is with the caller;
// from here a failure can only be passed on.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "filters/filter.h"
#include "sidecar/base/buffer.h"
#include "sidecar/http/codec.h"
#include "sidecar/http/websocket.h"
#include "sidecar/proxy/proxy_context.h"
#include "sidecar/proxy/upgrade_handshake.h"

namespace remora {

// The caller's side of an exchange: a session.
class ExchangeHost {
 public:
  virtual ~ExchangeHost() = default;
  virtual void send_informational(http::StreamId id, const http::ResponseHead& head) = 0;
  virtual void send_response(http::StreamId id, const http::ResponseHead& head, bool end) = 0;
  virtual void send_data(http::StreamId id, std::span<const uint8_t> bytes, bool end) = 0;
  virtual void send_trailers(http::StreamId id, const http::HeaderMap& trailers) = 0;
  // The response can't be completed: the caller must see that it was cut off.
  virtual void abort(http::StreamId id) = 0;
  virtual void consume(http::StreamId id, size_t n) = 0;
  virtual size_t buffered(http::StreamId id) const = 0;
  virtual const std::string& peer() const = 0;
  // Take the exchange out and defer its deletion.
  virtual void on_exchange_done(http::StreamId id) = 0;
};

class Exchange final : public Deferred,
                       FilterContext,
                       UpstreamEvents,
                       UpstreamPool::Waiter,
                       AgentGate::Waiter {
 public:
  enum class Phase { kFilters, kHeld, kAwaitingUpstream, kInAgent, kResponding, kDone };

  Exchange(ProxyContext& context, ExchangeHost& host, http::StreamId id, http::RequestHead request);
  ~Exchange() override;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  // From the session, in this order. begin() may already answer.
  void begin(bool end_stream);
  void on_request_data(std::span<const uint8_t> bytes);
  void on_request_trailers(ArenaPtr arena, http::HeaderMap trailers);
  void on_request_end();
  // The caller is gone; nobody waits for an answer.
  void on_downstream_gone();
  // The session's output for this stream has drained.
  void on_downstream_drained();

  // Deadlines and hold limits; called on every tick of the proxy.
  void on_tick(MonotonicTime now);
  // Answers from the proxy if the response has not begun, else cuts it off.
  void fail(http::Problem problem, std::string_view detail = {});
  // The proxy itself must end now. A response that has begun ends as its protocol provides: a
  // WebSocket by a Close frame, an event stream by its end, gRPC by its status.
  void end_for_drain();

  http::StreamId id() const { return id_; }
  Phase phase() const { return phase_; }
  const http::RequestHead& head() const { return request_; }
  bool request_ended() const { return request_ended_; }
  // Since when the agent has had it; meaningful in kInAgent and kResponding.
  MonotonicTime sent_at() const { return sent_at_; }
  // A response without a natural end (SSE, an upgraded connection, a gRPC stream): its silence is
  // no sign of a hang.
  bool is_stream() const { return is_stream_; }
  // The caller owes the rest of a body of known length, and nothing but the caller holds it up.
  bool awaits_caller() const {
    return !request_ended_ && request_.content_length.has_value() && request_unconsumed_ == 0 &&
           phase_ != Phase::kResponding && phase_ != Phase::kDone;
  }

  // Index in ProxyContext::exchanges.
  size_t list_index = 0;

 private:
  // FilterContext
  MonotonicTime now() const override { return context_.loop.now(); }
  const ExchangeInfo& info() const override { return info_; }
  http::RequestHead& request() override { return request_; }
  void set_deadline(MonotonicTime at) override;
  void reply(http::Problem problem) override { fail(problem); }
  // UpstreamEvents
  void on_upstream_informational(http::ResponseHead head) override;
  void on_upstream_response(http::ResponseHead head, bool end) override;
  void on_upstream_data(std::span<const uint8_t> bytes) override;
  void on_upstream_trailers(ArenaPtr arena, http::HeaderMap trailers) override;
  void on_upstream_end() override;
  void on_upstream_failed(http::StreamErrorKind kind, const Error& error) override;
  void on_upstream_drained() override;
  // UpstreamPool::Waiter
  void on_upstream_ready(UpstreamConnection& connection) override { open_on(connection); }
  void on_upstream_connect_failed(const Error& error) override;
  // AgentGate::Waiter
  void on_gate_open() override;

  void dispatch();
  void hold(Duration retry_after);
  void leave_hold();
  void open_on(UpstreamConnection& connection);
  bool count_replay();
  void give_back_request_bytes();
  void keep(std::span<const uint8_t> bytes);
  void drop_kept();
  bool run_request_filters();
  void leave_upstream();
  void on_response_complete();
  void finish(bool complete);

  ProxyContext& context_;
  ExchangeHost& host_;
  const http::StreamId id_;
  http::RequestHead request_;
  const std::shared_ptr<const FilterChain> filters_;
  Route route_;
  ExchangeInfo info_;
  Phase phase_ = Phase::kFilters;
  size_t filters_entered_ = 0;

  UpstreamConnection* connection_ = nullptr;
  http::StreamId stream_ = 0;

  // The request body as far as it has come, while keeping_; the part not yet sent otherwise never
  // exists, because a body is only dropped once a stream is open.
  Buffer kept_body_;
  bool keeping_ = true;
  bool request_ended_ = false;
  bool is_stream_ = false;
  bool is_event_stream_ = false;
  std::unique_ptr<http::WebSocketFrames> websocket_;  // what the agent sends, once upgraded
  std::unique_ptr<UpgradeHandshake> handshake_;       // of a caller that speaks HTTP/2
  bool trailers_sent_ = false;
  ArenaPtr trailers_arena_;
  http::HeaderMap request_trailers_;
  size_t request_unconsumed_ = 0;
  size_t response_unconsumed_ = 0;

  uint32_t free_retries_ = 0;
  // The last retry was free because the agent seemed alive; that is not settled yet.
  bool free_retry_unsettled_ = false;
  uint32_t hold_rounds_ = 0;
  MonotonicTime sent_at_{};
  MonotonicTime waiting_since_{};  // not with the agent since then
  MonotonicTime deadline_ = MonotonicTime::max();
  Subscription deadline_timer_;
  Subscription retry_timer_;
};

}  // namespace remora
