#include "sidecar/proxy/upstream_connection.h"

#include <algorithm>
#include <utility>

#include "sidecar/base/buffer.h"

namespace remora {

UpstreamConnection::UpstreamConnection(Loop& loop, UpstreamConnectionOwner& owner,
                                       std::unique_ptr<Transport> transport, http::Version version,
                                       const http::CodecLimits& limits)
    : loop_(loop),
      owner_(owner),
      version_(version),
      codec_(version == http::Version::kHttp2
                 ? http::make_h2_codec(http::Role::kClient, *this, limits)
                 : http::make_h1_codec(http::Role::kClient, *this, limits)),
      transport_(std::move(transport)) {
  transport_->start(*this);
}

Result<http::StreamId> UpstreamConnection::open(const http::RequestHead& head, bool end,
                                                UpstreamEvents& events) {
  Result<http::StreamId> id = codec_->send_request(head, end);
  if (!id) return id;
  ++opened_;
  streams_.push_back({*id, &events});
  schedule_flush();
  return id;
}

void UpstreamConnection::send_data(http::StreamId id, std::span<const uint8_t> bytes, bool end) {
  codec_->send_data(id, bytes, end);
  schedule_flush();
}

void UpstreamConnection::send_trailers(http::StreamId id, const http::HeaderMap& trailers) {
  codec_->send_trailers(id, trailers);
  schedule_flush();
}

void UpstreamConnection::consume(http::StreamId id, size_t n) {
  codec_->consume(id, n);
  schedule_flush();  // window updates, and the read pause
}

void UpstreamConnection::abandon(http::StreamId id) {
  if (take(id) == nullptr) return;
  codec_->reset(id);
  schedule_flush();
  after_stream();
}

void UpstreamConnection::stop_sending(http::StreamId id) {
  codec_->reset(id);
  schedule_flush();
}

void UpstreamConnection::close(const Error& reason) {
  if (closed_) return;
  closed_ = true;
  std::vector<Stream> failed;
  failed.swap(streams_);
  for (const Stream& stream : failed) {
    stream.events->on_upstream_failed(http::StreamErrorKind::kPeerReset, reason);
  }
  owner_.on_connection_closed(*this, reason, connected_);
}

void UpstreamConnection::on_connected() {
  connected_ = true;
  idle_since_ = loop_.now();
  owner_.on_connection_ready(*this);
  schedule_flush();
}

void UpstreamConnection::on_read(std::span<const uint8_t> bytes) {
  if (closed_) return;
  if (Result<void> received = codec_->receive(bytes); !received) {
    // A GOAWAY may be waiting to tell the agent why.
    flush();
    Error error = std::move(received.error());
    error.source = ErrorSource::kUpstream;
    if (closed_) return;
    std::vector<Stream> failed;
    failed.swap(streams_);
    for (const Stream& stream : failed) {
      stream.events->on_upstream_failed(http::StreamErrorKind::kProtocol, error);
    }
    close(error);
    return;
  }
  schedule_flush();
}

void UpstreamConnection::on_read_eof() {
  if (closed_) return;
  codec_->receive_eof();
  if (codec_->idle() || codec_->close_after_flush()) {
    close(
        Error{ErrorCode::kReset, ErrorSource::kUpstream, true, "the agent closed the connection"});
  } else {
    schedule_flush();
  }
}

void UpstreamConnection::on_informational(http::StreamId id, http::ResponseHead head) {
  if (UpstreamEvents* events = find(id)) events->on_upstream_informational(std::move(head));
}

void UpstreamConnection::on_response(http::StreamId id, http::ResponseHead head, bool end) {
  UpstreamEvents* events = end ? take(id) : find(id);
  if (events != nullptr) events->on_upstream_response(std::move(head), end);
  if (end) after_stream();
}

void UpstreamConnection::on_data(http::StreamId id, std::span<const uint8_t> bytes) {
  if (UpstreamEvents* events = find(id)) {
    events->on_upstream_data(bytes);
  } else {
    codec_->consume(id, bytes.size());
  }
}

void UpstreamConnection::on_trailers(http::StreamId id, ArenaPtr arena, http::HeaderMap trailers) {
  if (UpstreamEvents* events = find(id)) {
    events->on_upstream_trailers(std::move(arena), std::move(trailers));
  }
}

void UpstreamConnection::on_end(http::StreamId id) {
  if (UpstreamEvents* events = take(id)) events->on_upstream_end();
  after_stream();
}

void UpstreamConnection::on_stream_error(http::StreamId id, http::StreamErrorKind kind,
                                         const Error& error) {
  if (UpstreamEvents* events = take(id)) events->on_upstream_failed(kind, error);
  after_stream();
}

void UpstreamConnection::on_drained(http::StreamId id) {
  if (UpstreamEvents* events = find(id)) events->on_upstream_drained();
}

UpstreamEvents* UpstreamConnection::find(http::StreamId id) {
  const auto it = std::ranges::find(streams_, id, &Stream::id);
  return it == streams_.end() ? nullptr : it->events;
}

UpstreamEvents* UpstreamConnection::take(http::StreamId id) {
  const auto it = std::ranges::find(streams_, id, &Stream::id);
  if (it == streams_.end()) return nullptr;
  UpstreamEvents* events = it->events;
  *it = streams_.back();
  streams_.pop_back();
  return events;
}

// A stream has ended. Whether the connection can carry another is known once the codec has left the
// current call, so the owner is told at the end of the turn, after the flush.
void UpstreamConnection::after_stream() {
  if (closed_) return;
  if (streams_.empty()) idle_since_ = loop_.now();
  ready_posted_ = true;
  schedule_flush();
}

void UpstreamConnection::schedule_flush() {
  if (flush_posted_ || closed_) return;
  flush_posted_ = true;
  loop_.post([this] {
    flush_posted_ = false;
    flush();
  });
}

void UpstreamConnection::flush() {
  if (closed_ || !connected_) return;
  while (true) {
    const std::string_view output = codec_->pending_output();
    if (output.empty()) break;
    const Result<size_t> taken = transport_->write(as_bytes(output));
    if (!taken) {
      close(taken.error());
      return;
    }
    codec_->wrote(*taken);
    if (*taken < output.size()) {
      // A peer that does not read is not read from for ever either.
      transport_->set_read_paused(!codec_->wants_read());
      return;
    }
  }
  transport_->set_read_paused(!codec_->wants_read());
  if (codec_->shutdown_write_after_flush() && !write_shut_) {
    write_shut_ = true;
    transport_->shutdown_write();
  }
  if (codec_->close_after_flush() && streams_.empty()) {
    close(Error{ErrorCode::kReset, ErrorSource::kUpstream, true, "the connection has had its use"});
    return;
  }
  if (std::exchange(ready_posted_, false) && can_open()) owner_.on_connection_ready(*this);
}

}  // namespace remora
