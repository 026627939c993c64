#include "sidecar/admin/connection.h"

#include <utility>

#include "sidecar/base/buffer.h"

namespace remora {
namespace {

http::CodecLimits admin_limits() {
  http::CodecLimits limits;
  limits.header_bytes_max = admin_request_header_bytes_max;
  limits.url_bytes_max = 2048;
  limits.header_count_max = 64;
  return limits;
}

AdminResponse refusal(const Error& error) {
  if (error.code != ErrorCode::kLimitExceeded) {
    return admin_problem(400, "The request is not HTTP/1.1.", error.message);
  }
  return admin_problem(error.message.starts_with("url") ? 414 : 431, "The request is too large.",
                       error.message);
}

}  // namespace

AdminConnection::AdminConnection(Loop& loop, AdminSource& source, AdminConnectionOwner& owner,
                                 std::unique_ptr<Transport> transport, bool over_tcp)
    : loop_(loop),
      source_(source),
      owner_(owner),
      over_tcp_(over_tcp),
      transport_(std::move(transport)),
      codec_(http::make_h1_codec(http::Role::kServer, *this, admin_limits())),
      self_(std::make_shared<AdminConnection*>(this)) {}

void AdminConnection::start() {
  arm(admin_idle_ms_max);
  transport_->start(*this);
}

void AdminConnection::on_read(std::span<const uint8_t> bytes) {
  if (closed_ || lingering_ || broken_) return;
  receive(bytes);
}

void AdminConnection::receive(std::span<const uint8_t> bytes) {
  if (Result<void> received = codec_->receive(bytes); !received) {
    broken_ = true;
    respond(request_ ? request_->id : http::kErrorStream, refusal(received.error()));
  }
  schedule_flush();
}

void AdminConnection::on_read_eof() {
  if (closed_) return;
  peer_ended_ = true;
  if (!broken_) codec_->receive_eof();
  if (lingering_ || !request_) {
    close();
  } else {
    schedule_flush();
  }
}

void AdminConnection::on_request(http::StreamId id, http::RequestHead head, bool end_stream) {
  request_ =
      Request{id, std::string(head.method), std::string(head.path), std::string(head.authority), 0};
  if (end_stream) dispatch();
}

void AdminConnection::on_data(http::StreamId id, std::span<const uint8_t> bytes) {
  codec_->consume(id, bytes.size());
  if (!request_ || request_->id != id) return;
  request_->body_bytes += bytes.size();
  if (request_->body_bytes > admin_request_body_bytes_max) {
    codec_->start_drain();
    respond(id, admin_problem(413, "The request's body is too large.", "send no body"));
  }
}

void AdminConnection::on_end(http::StreamId id) {
  if (request_ && request_->id == id) dispatch();
}

void AdminConnection::on_stream_error(http::StreamId id, http::StreamErrorKind /*kind*/,
                                      const Error& /*error*/) {
  if (request_ && request_->id == id) request_.reset();
}

void AdminConnection::dispatch() {
  arm(admin_answer_ms_max);
  const Request request = *request_;
  const AdminRequest asked{request.method, request.path, request.host, over_tcp_};
  answer_admin_request(source_, asked,
                       [weak = std::weak_ptr<AdminConnection*>(self_),
                        id = request.id](const AdminResponse& response) {
                         const auto self = weak.lock();
                         if (self && *self != nullptr) (*self)->respond(id, response);
                       });
}

void AdminConnection::respond(http::StreamId id, const AdminResponse& response) {
  if (closed_) return;
  const bool is_head = request_ && request_->method == "HEAD";
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
  arm(admin_idle_ms_max);
  schedule_flush();
}

// Posted, so that the codec is never written to the transport from inside its own receive().
void AdminConnection::schedule_flush() {
  if (flush_posted_ || closed_) return;
  flush_posted_ = true;
  loop_.post([weak = std::weak_ptr<AdminConnection*>(self_)] {
    const auto self = weak.lock();
    if (!self || *self == nullptr) return;
    (*self)->flush_posted_ = false;
    (*self)->flush();
  });
}

void AdminConnection::flush() {
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

void AdminConnection::after_flush() {
  if (request_ || lingering_) return;
  if (peer_ended_) return close();
  if (broken_ || codec_->close_after_flush()) {
    lingering_ = true;
    transport_->shutdown_write();
    transport_->set_read_paused(false);
    arm(admin_linger_ms_max);
    return;
  }
  if (codec_->has_unparsed()) return receive({});
  transport_->set_read_paused(!codec_->wants_read());
}

void AdminConnection::arm(int limit_ms) {
  deadline_ = loop_.add_timer(std::chrono::milliseconds(limit_ms), [this] { close(); });
}

void AdminConnection::close() {
  if (closed_) return;
  closed_ = true;
  *self_ = nullptr;
  deadline_.cancel();
  owner_.on_connection_closed(*this);
}

}  // namespace remora
