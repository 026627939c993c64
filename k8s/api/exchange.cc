#include "k8s/api/exchange.h"

#include <charconv>
#include <utility>

#include "k8s/api/connection.h"
#include "k8s/api/pool.h"
#include "sidecar/base/buffer.h"

namespace remora::k8s {
namespace {

// RFC 9110 section 10.2.3; the form with a date is not used by Kubernetes.
std::optional<Duration> retry_after_of(const http::ResponseHead& head) {
  const std::optional<std::string_view> text = head.headers.find("retry-after");
  if (!text) return std::nullopt;
  int seconds = 0;
  const auto [end, problem] = std::from_chars(text->data(), text->data() + text->size(), seconds);
  if (problem != std::errc() || end != text->data() + text->size() || seconds < 0) {
    return std::nullopt;
  }
  return std::chrono::seconds(seconds);
}

}  // namespace

Exchange::Exchange(Loop& loop, Pool& pool, ApiRequest request,
                   std::shared_ptr<ApiClient::Data> data, ApiClient::Done done)
    : loop_(loop),
      pool_(&pool),
      request_(std::move(request)),
      data_(std::move(data)),
      done_(std::move(done)),
      deadline_(loop.clock().now() + std::chrono::milliseconds(request_.answer_ms_max)) {
  timer_ = loop_.add_timer(std::chrono::milliseconds(request_.answer_ms_max), [this] {
    if (connection_ != nullptr) connection_->doubt();
    fail(ErrorCode::kTimeout, "no answer in time");
  });
}

Exchange::~Exchange() {
  withdraw();
  if (pool_ != nullptr) pool_->leave(*this);
}

void Exchange::orphan() {
  over_ = true;
  pool_ = nullptr;
  connection_ = nullptr;
  timer_.cancel();
  later_.cancel();
}

void Exchange::on_sent(Connection& connection, http::StreamId stream) {
  connection_ = &connection;
  stream_ = stream;
}

void Exchange::on_head(const http::ResponseHead& head) {
  reply_.status = head.status;
  reply_.retry_after = retry_after_of(head);
  if (!is_stream() || !reply_.ok()) return;
  heard_at_ = loop_.now();
  watch_silence();
  const std::shared_ptr<ApiClient::Data> data = data_;
  (*data)({});
}

void Exchange::watch_silence() {
  const Duration limit = std::chrono::milliseconds(api_stream_silence_ms_max);
  const Duration left = heard_at_ + limit - loop_.now();
  if (left <= Duration{}) {
    if (connection_ != nullptr) connection_->doubt();
    return fail(ErrorCode::kTimeout, "the stream has fallen silent");
  }
  timer_ = loop_.add_timer(left, [this] { watch_silence(); });
}

void Exchange::on_data(std::span<const uint8_t> bytes) {
  if (over_) return;
  if (is_stream() && reply_.ok()) {
    heard_at_ = loop_.now();
    const std::shared_ptr<ApiClient::Data> data = data_;
    return (*data)(as_text(bytes));
  }
  reply_.body += as_text(bytes);
  if (reply_.body.size() > api_reply_bytes_max) {
    fail(ErrorCode::kLimitExceeded, "the answer is too large");
  }
}

void Exchange::on_end() {
  connection_ = nullptr;
  if (over_ || ask_again_later()) return;
  finish(std::move(reply_));
}

void Exchange::on_lost(const Error& error, bool may_repeat) {
  connection_ = nullptr;
  if (over_) return;
  if (may_repeat && !answered() && ++repeats_ <= api_repeats_max) return pool_->enter(*this);
  fail(error.code, error.message);
}

// An answer that only says "later".
bool Exchange::ask_again_later() {
  const bool throttled = reply_.status == 429 || reply_.status == 503;
  if (!throttled || !reply_.retry_after || !request_.retry_throttled) return false;
  if (repeats_ >= api_repeats_max || loop_.clock().now() + *reply_.retry_after >= deadline_) {
    return false;
  }
  ++repeats_;
  pool_->count_throttled();
  const Duration wait = *reply_.retry_after;
  reply_ = {};
  later_ = loop_.add_timer(wait, [this] { pool_->enter(*this); });
  return true;
}

void Exchange::fail(ErrorCode code, const std::string& why) {
  finish(make_error(code, ErrorSource::kUpstream,
                    request_.method + " " + request_.path + ": " + why,
                    code != ErrorCode::kCancelled));
}

void Exchange::finish(Result<ApiReply> result) {
  if (std::exchange(over_, true)) return;
  withdraw();
  later_.cancel();
  timer_ = loop_.add_timer({}, [this, result = std::move(result)]() mutable {
    ApiClient::Done done = std::move(done_);
    done(std::move(result));
  });
}

void Exchange::withdraw() {
  if (Connection* connection = std::exchange(connection_, nullptr)) connection->abandon(stream_);
}

}  // namespace remora::k8s
