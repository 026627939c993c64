#include "k8s/link/server_wire.h"

#include <utility>

namespace remora::link {
namespace {

http::CodecLimits limits() {
  http::CodecLimits limits;
  // A token is the largest field.
  limits.header_bytes_max = 32 * 1024;
  limits.header_count_max = 64;
  limits.concurrent_streams_max = calls_per_connection_max;
  return limits;
}

}  // namespace

ServerCall::ServerCall(ServerWire& wire, http::StreamId id, std::string authorization)
    : wire_(wire), id_(id), authorization_(std::move(authorization)) {}

const std::string& ServerCall::peer() const { return wire_.peer(); }

void ServerCall::accept() {
  if (std::exchange(accepted_, true) || finished_) return;
  wire_.settle();
  http::ResponseHead head;
  head.status = 200;
  head.headers.add("content-type", "application/grpc");
  wire_.codec().send_response(id_, head, false);
  begun_ = true;
  wire_.flush_soon();
  const std::string early = std::exchange(early_, {});
  if (!early.empty()) read(as_bytes(early));
  if (peer_ended_) finish(StatusCode::kOk, "");
}

void ServerCall::on_peer_end() {
  peer_ended_ = true;
  if (accepted_) finish(StatusCode::kOk, "");
}

void ServerCall::send(const v1::OperatorMessage& message) {
  if (finished_ || !begun_) return;
  if (wire_.codec().buffered(id_) > unsent_bytes_max) {
    return finish(StatusCode::kResourceExhausted, "too much is sent and not read");
  }
  const std::string frame = frame_of(message.SerializeAsString());
  wire_.codec().send_data(id_, as_bytes(frame), false);
  wire_.flush_soon();
}

void ServerCall::finish(StatusCode code, std::string_view message) {
  if (std::exchange(finished_, true)) return;
  const std::string number = std::to_string(static_cast<int>(code));
  const std::string words = encoded_message(message);
  if (begun_) {
    http::HeaderMap trailers;
    trailers.add("grpc-status", number);
    trailers.add("grpc-message", words);
    wire_.codec().send_trailers(id_, trailers);
    wire_.flush_soon();
  } else {
    wire_.refuse(id_, 200, code, message);
  }
  wire_.drop_soon(id_);
}

void ServerCall::receive(std::span<const uint8_t> bytes) {
  if (finished_) {
    wire_.codec().consume(id_, bytes.size());
  } else if (accepted_) {
    read(bytes);
  } else {
    early_ += as_text(bytes);  // the window is given back once it is read
  }
}

void ServerCall::read(std::span<const uint8_t> bytes) {
  const Result<void> done =
      reader_.read(bytes, [this](std::string_view text) { return take(text); });
  wire_.codec().consume(id_, bytes.size());
  wire_.flush_soon();
  if (done) return;
  const bool compressed = done.error().code == ErrorCode::kUnsupportedVersion;
  finish(compressed ? StatusCode::kUnimplemented : StatusCode::kResourceExhausted,
         done.error().message);
}

bool ServerCall::take(std::string_view text) {
  v1::SidecarMessage message;
  if (!message.ParseFromArray(text.data(), static_cast<int>(text.size()))) {
    finish(StatusCode::kInvalidArgument, "this is no SidecarMessage of remora.link.v1");
    return false;
  }
  events_->on_message(message);
  return !finished_;
}

void ServerCall::end() {
  finished_ = true;
  if (events_) events_->on_end();
}

ServerWire::ServerWire(Loop& loop, Server& server, std::unique_ptr<Transport> transport,
                       std::string peer)
    : Wire(loop, std::move(transport), http::Role::kServer, limits()),
      server_(server),
      peer_(std::move(peer)) {
  watch_newcomer();
}

void ServerWire::watch_newcomer() {
  newcomer_limit_ = loop().add_timer(std::chrono::milliseconds(newcomer_ms_max), [this] {
    die({ErrorCode::kTimeout, ErrorSource::kDownstream, true, "nobody was accepted in time"});
  });
}

void ServerWire::settle() {
  newcomer_limit_.cancel();
  if (std::exchange(newcomer_, false)) server_.on_settled(source());
}

void ServerWire::retire() {
  retired_ = true;
  codec().start_drain();
  for (const auto& [id, call] : calls_) {
    call->finish(StatusCode::kUnavailable, "this replica of the operator is ending");
  }
  flush_soon();
}

void ServerWire::on_request(http::StreamId id, http::RequestHead head, bool end_stream) {
  const std::string_view type = head.headers.find("content-type").value_or("");
  if (!type.starts_with("application/grpc")) {
    return refuse(id, 415, StatusCode::kUnimplemented, "this port is for gRPC only");
  }
  if (head.method != "POST" || head.path != connect_path) {
    return refuse(id, 200, StatusCode::kUnimplemented,
                  "there is only " + std::string(connect_path));
  }
  if (retired_) return refuse(id, 200, StatusCode::kUnavailable, "this replica is ending");
  auto call = std::make_unique<ServerCall>(
      *this, id, std::string(head.headers.find("authorization").value_or("")));
  ServerCall& here = *call;
  calls_[id] = std::move(call);
  here.set_events(server_.on_call_(here));
  if (end_stream) on_end(id);
}

void ServerWire::refuse(http::StreamId id, int http_status, StatusCode code,
                        std::string_view message) {
  const std::string number = std::to_string(static_cast<int>(code));
  const std::string words = encoded_message(message);
  http::ResponseHead head;
  head.status = http_status;
  head.headers.add("content-type", "application/grpc");
  head.headers.add("grpc-status", number);
  head.headers.add("grpc-message", words);
  codec().send_response(id, head, true);
  flush_soon();
}

void ServerWire::on_data(http::StreamId id, std::span<const uint8_t> bytes) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) return codec().consume(id, bytes.size());
  found->second->receive(bytes);
}

void ServerWire::on_end(http::StreamId id) {
  const auto found = calls_.find(id);
  if (found != calls_.end()) found->second->on_peer_end();
}

void ServerWire::on_stream_error(http::StreamId id, http::StreamErrorKind /*kind*/,
                                 const Error& /*error*/) {
  drop_soon(id);
}

void ServerWire::drop_soon(http::StreamId id) {
  loop().post([this, id, here = here_] {
    if (*here) drop(id);
  });
}

void ServerWire::drop(http::StreamId id) {
  const auto node = calls_.extract(id);
  if (node.empty()) return;
  node.mapped()->end();
  if (!calls_.empty() || is_dead()) return;
  watch_newcomer();  // the connection may be used again, soon
  flush_soon();
}

void ServerWire::on_dead(const Error& /*why*/) {
  *here_ = false;
  newcomer_limit_.cancel();
  for (const auto& [id, call] : std::exchange(calls_, {})) call->end();
  server_.on_closed(*this, newcomer_);
}

}  // namespace remora::link
