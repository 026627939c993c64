#include "sidecar/proxy/detector.h"

#include <utility>

#include "sidecar/base/buffer.h"
#include "sidecar/http/detect.h"
#include "sidecar/net/tcp.h"

namespace remora {

Detector::Detector(Loop& loop, ConnectionOwner& owner, DetectorHost& host,
                   std::unique_ptr<Transport> transport, const ConnectionTimeouts& timeouts)
    : loop_(loop),
      owner_(owner),
      host_(host),
      timeouts_(timeouts),
      transport_(std::move(transport)),
      began_at_(loop.now()) {}

void Detector::on_read(std::span<const uint8_t> bytes) {
  if (done_ || ended_at_) return;
  bytes_.append(as_text(bytes));
  switch (http::detect_protocol(as_bytes(bytes_))) {
    case http::Protocol::kUnknown:
      return;
    case http::Protocol::kHttp1:
      hand_over(false);
      return;
    case http::Protocol::kHttp2:
      hand_over(true);
      return;
    case http::Protocol::kOpaque:
      relay_as_is(false);
      return;
  }
}

// The caller has said all it will, and it was too little to tell: relayed as it is.
void Detector::on_read_eof() {
  if (done_) return;
  if (bytes_.empty() || ended_at_) {
    close();
  } else {
    relay_as_is(true);
  }
}

void Detector::Agent::on_read(std::span<const uint8_t> bytes) {
  if (detector.done_) return;
  detector.done_ = true;
  detector.host_.become_tunnel(detector, std::move(detector.transport_), detector.bytes_, false,
                               std::move(transport), as_text(bytes));
}

void Detector::hand_over(bool http2) {
  done_ = true;
  drop_agent();
  host_.become_session(*this, std::move(transport_), http2, bytes_);
}

void Detector::relay_as_is(bool caller_ended) {
  done_ = true;
  drop_agent();
  host_.become_tunnel(*this, std::move(transport_), bytes_, caller_ended, nullptr, {});
}

void Detector::on_tick(MonotonicTime now) {
  if (done_) return;
  if (ended_at_) {
    if (now - *ended_at_ > std::chrono::milliseconds(end_linger_ms_max)) close();
    return;
  }
  const Duration waited = now - began_at_;
  const bool is_too_late =
      draining_since_ && now - *draining_since_ > std::chrono::milliseconds(drain_silence_ms_max);
  if (is_too_late || waited > timeouts_.idle || (!bytes_.empty() && waited > timeouts_.headers)) {
    end(now);
  } else if (waited > timeouts_.detect && !agent_tried_ && host_.may_be_server_first()) {
    agent_tried_ = true;
    agent_.transport = connect_socket(loop_, host_.agent_address(), timeouts_.connect);
    agent_.transport->start(agent_);
  }
}

void Detector::end(MonotonicTime now) {
  if (transport_->has_unread()) return;  // the loop is about to hand it over
  drop_agent();
  ended_at_ = now;
  transport_->shutdown_write();
}

void Detector::drop_agent() {
  if (agent_.transport == nullptr) return;
  loop_.defer_delete(std::move(agent_.transport));
}

void Detector::close() {
  if (done_) return;
  done_ = true;
  owner_.on_connection_closed(*this);
}

}  // namespace remora
