#include "k8s/link/wire.h"

#include <utility>

#include "sidecar/base/buffer.h"

namespace remora::link {
namespace {

std::chrono::milliseconds ms(int n) { return std::chrono::milliseconds(n); }

Error gone(const char* why) { return {ErrorCode::kReset, ErrorSource::kUpstream, true, why}; }

}  // namespace

Wire::Wire(Loop& loop, std::unique_ptr<Transport> transport, http::Role role,
           const http::CodecLimits& limits)
    : loop_(loop),
      transport_(std::move(transport)),
      codec_(http::make_h2_codec(role, *this, limits)),
      heard_at_(loop.now()) {
  life_ = loop_.add_timer(ms(life_check_ms), [this] { check_life(); });
}

Wire::~Wire() { *alive_ = false; }

void Wire::kill() {
  dead_ = true;
  life_.cancel();
  end_.cancel();
}

void Wire::die(const Error& why) {
  if (std::exchange(dead_, true)) return;
  life_.cancel();
  end_ = loop_.add_timer({}, [this, why] { on_dead(why); });
}

void Wire::on_read(std::span<const uint8_t> bytes) {
  if (dead_) return;
  heard_at_ = loop_.now();
  pinged_ = false;
  if (const Result<void> received = codec_->receive(bytes); !received) {
    flush();
    return die(received.error());
  }
  flush_soon();
}

void Wire::on_read_eof() {
  if (dead_) return;
  codec_->receive_eof();
  die(gone("the peer has closed the connection"));
}

void Wire::flush_soon() {
  if (dead_ || std::exchange(flush_posted_, true)) return;
  loop_.post([this, alive = alive_] {
    if (!*alive) return;
    flush_posted_ = false;
    flush();
  });
}

void Wire::flush() {
  while (!dead_) {
    const std::string_view output = codec_->pending_output();
    if (output.empty()) break;
    const Result<size_t> taken = transport_->write(as_bytes(output));
    if (!taken) return die(taken.error());
    codec_->wrote(*taken);
    if (*taken < output.size()) return;
  }
  if (dead_) return;
  if (codec_->wants_read() == read_paused_) {
    read_paused_ = !read_paused_;
    transport_->set_read_paused(read_paused_);
  }
  const bool over = codec_->close_after_flush() || is_over();
  if (over && codec_->pending_output().empty()) die(gone("the connection has ended"));
}

void Wire::check_life() {
  const MonotonicTime now = loop_.now();
  if (pinged_ && now - pinged_at_ >= ms(pong_ms_max)) {
    return die(gone("the peer gives no sign of life"));
  }
  life_ = loop_.add_timer(ms(life_check_ms), [this] { check_life(); });
  if (pinged_ || now - heard_at_ < ms(ping_after_ms)) return;
  pinged_ = true;
  pinged_at_ = now;
  codec_->ping();
  flush_soon();
}

}  // namespace remora::link
