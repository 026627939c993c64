#include "sidecar/serve/http_connection.h"

#include <utility>

#include "sidecar/base/buffer.h"

namespace remora {
namespace {

http::CodecLimits server_limits() {
  http::CodecLimits limits;
  limits.header_bytes_max = server_request_header_bytes_max;
  limits.url_bytes_max = 2048;
  limits.header_count_max = 64;
  return limits;
}

ServerResponse refusal(const Error& error) {
  if (error.code != ErrorCode::kLimitExceeded) {
    return problem_response(400, "The request is not HTTP/1.1.", error.message);
  }
  return problem_response(error.message.starts_with("url") ? 414 : 431, "The request is too large.",
                          error.message);
}

}  // namespace

HttpConnection::HttpConnection(Loop& loop, ServerHandler& handler, HttpConnectionOwner& owner,
                               BodyBudget& budget, std::unique_ptr<Transport> transport,
                               const HttpConnectionOptions& options)
    : loop_(loop),
      handler_(handler),
      owner_(owner),
      budget_(budget),
      options_(options),
      transport_(std::move(transport)),
      codec_(http::make_h1_codec(http::Role::kServer, *this, server_limits())),
      self_(std::make_shared<HttpConnection*>(this)) {}

void HttpConnection::start() {
  arm(server_idle_ms_max);
  transport_->start(*this);
}

void HttpConnection::drain() {
  retire();
  schedule_flush();
}

void HttpConnection::on_read(std::span<const uint8_t> bytes) {
  if (closed_ || lingering_ || broken_) return;
  if (std::exchange(waiting_, false)) arm(server_idle_ms_max);
  receive(bytes);
}

void HttpConnection::receive(std::span<const uint8_t> bytes) {
  if (Result<void> received = codec_->receive(bytes); !received) {
    broken_ = true;
    respond(request_ ? request_->id : http::kErrorStream, refusal(received.error()));
  }
  schedule_flush();
}

void HttpConnection::on_read_eof() {
  if (closed_) return;
  peer_ended_ = true;
  if (!broken_) codec_->receive_eof();
  if (lingering_ || !request_) {
    close();
  } else {
    schedule_flush();
  }
}

void HttpConnection::on_request(http::StreamId id, http::RequestHead head, bool end_stream) {
  request_.emplace(id,
                   ServerRequest{.method = std::string(head.method),
                                 .path = std::string(head.path),
                                 .host = std::string(head.authority),
                                 .body = {}},
                   budget_);
  if (end_stream) dispatch();
}

void HttpConnection::on_data(http::StreamId id, std::span<const uint8_t> bytes) {
  codec_->consume(id, bytes.size());
  if (!request_ || request_->id != id) return;
  request_->body_bytes += bytes.size();
  if (request_->body_bytes > options_.request_body_bytes_max) {
    refuse_body(413, "The request's body is too large.",
                "at most " + std::to_string(options_.request_body_bytes_max) + " bytes are taken");
  } else if (options_.keep_body && !request_->share.take(bytes.size())) {
    refuse_body(503, "Too much is asked at once.",
                "the bodies of all requests together have passed their limit; try again");
  } else if (options_.keep_body) {
    request_->request.body += as_text(bytes);
  }
}

void HttpConnection::refuse_body(int status, std::string_view title, std::string_view detail) {
  codec_->start_drain();
  respond(request_->id, problem_response(status, title, detail));
}

void HttpConnection::on_end(http::StreamId id) {
  if (request_ && request_->id == id) dispatch();
}

void HttpConnection::on_stream_error(http::StreamId id, http::StreamErrorKind /*kind*/,
                                     const Error& /*error*/) {
  if (request_ && request_->id == id) request_.reset();
}

void HttpConnection::dispatch() {
  arm(server_answer_ms_max);
  // Out of the request: the answer may come at once and end it.
  const ServerRequest request = std::move(request_->request);
  handler_(request, [weak = std::weak_ptr<HttpConnection*>(self_),
                     id = request_->id](const ServerResponse& response) {
    const auto self = weak.lock();
    if (self && *self != nullptr) (*self)->respond(id, response);
  });
}

void HttpConnection::respond(http::StreamId id, const ServerResponse& response) {
  if (closed_) return;
  const bool is_head = request_ && request_->is_head;
  request_.reset();
  http::ResponseHead head;
  head.status = response.status;
  head.content_length = response.body.size();
  head.headers.add("content-type", response.content_type);
  head.headers.add("cache-control", "no-store");
  if (!response.allow.empty()) head.headers.add("allow", response.allow);
  const bool without_body = is_head || response.body.empty();
  codec_->send_response(id, head, without_body);
  if (!without_body) codec_->send_data(id, as_bytes(response.body), true);
  answering_ = true;
  arm(server_idle_ms_max);
  schedule_flush();
}

// Posted, so that the codec is never written to the transport from inside its own receive().
void HttpConnection::schedule_flush() {
  if (flush_posted_ || closed_) return;
  flush_posted_ = true;
  loop_.post([weak = std::weak_ptr<HttpConnection*>(self_)] {
    const auto self = weak.lock();
    if (!self || *self == nullptr) return;
    (*self)->flush_posted_ = false;
    (*self)->flush();
  });
}

void HttpConnection::flush() {
  if (closed_) return;
  while (true) {
    const std::string_view output = codec_->pending_output();
    if (output.empty()) break;
    const Result<size_t> taken = transport_->write(as_bytes(output));
    if (!taken) return close();
    codec_->wrote(*taken);
    if (*taken < output.size()) return;
  }
  after_flush();
}

void HttpConnection::after_flush() {
  if (request_ || lingering_) return;
  if (peer_ended_) return close();
  if (broken_ || codec_->close_after_flush()) {
    lingering_ = true;
    transport_->shutdown_write();
    transport_->set_read_paused(false);
    arm(server_linger_ms_max);
    return;
  }
  const bool answered = std::exchange(answering_, false);
  if (codec_->has_unparsed()) return receive({});
  if (answered) {
    waiting_ = true;
    arm(options_.keep_alive_ms_max);
  }
  transport_->set_read_paused(!codec_->wants_read());
}

void HttpConnection::arm(int limit_ms) {
  deadline_ = loop_.add_timer(std::chrono::milliseconds(limit_ms), [this] { close(); });
}

void HttpConnection::close() {
  if (closed_) return;
  closed_ = true;
  *self_ = nullptr;
  deadline_.cancel();
  request_.reset();  // gives back its share while the server is there
  owner_.on_connection_closed(*this);
}

}  // namespace remora
