#include "k8s/link/client.h"

#include <utility>

#include "config/read_file.h"
#include "k8s/link/frame.h"
#include "k8s/link/server.h"
#include "k8s/link/token_review.h"
#include "k8s/link/wire.h"
#include "k8s/watch/backoff.h"
#include "sidecar/base/log.h"
#include "sidecar/net/named_connect.h"

namespace remora::link {
namespace {

constexpr k8s::BackoffRules retry_rules{std::chrono::milliseconds(retry_base_ms),
                                        std::chrono::milliseconds(retry_ms_max)};

}  // namespace

// One connection and the one call on it.
class ClientWire final : public Wire {
 public:
  ClientWire(EventLoop& event_loop, Client& client, std::unique_ptr<Transport> transport,
             std::string authority, std::string token)
      : Wire(event_loop, std::move(transport), http::Role::kClient, {}),
        client_(client),
        authority_(std::move(authority)),
        token_(std::move(token)) {}

  void send(const v1::SidecarMessage& message) {
    const std::string frame = frame_of(message.SerializeAsString());
    codec().send_data(stream_, as_bytes(frame), false);
    flush_soon();
  }

 private:
  void on_connected() override {
    http::RequestHead head;
    const std::string authorization = "Bearer " + std::exchange(token_, {});
    head.method = "POST";
    head.scheme = "https";
    head.authority = authority_;
    head.path = connect_path;
    head.headers.add("content-type", "application/grpc");
    head.headers.add("te", "trailers");
    head.headers.add("user-agent", "remora");
    head.headers.add("authorization", authorization);
    const Result<http::StreamId> stream = codec().send_request(head, false);
    if (!stream) return die(stream.error());
    stream_ = *stream;
    flush_soon();
  }

  void on_response(http::StreamId /*id*/, http::ResponseHead head, bool end_stream) override {
    note_status(head.headers);
    if (end_stream) return over();
    const std::string_view type = head.headers.find("content-type").value_or("");
    if (head.status != 200 || !type.starts_with("application/grpc")) {
      return die({ErrorCode::kProtocol, ErrorSource::kUpstream, true,
                  "answered with HTTP status " + std::to_string(head.status)});
    }
    client_.on_open();
  }

  void on_data(http::StreamId id, std::span<const uint8_t> bytes) override {
    codec().consume(id, bytes.size());
    if (is_dead()) return;
    const Result<void> read = reader_.read(bytes, [this](std::string_view text) {
      v1::OperatorMessage message;
      if (message.ParseFromArray(text.data(), static_cast<int>(text.size()))) {
        client_.on_message(message);
      }
      return !is_dead();
    });
    if (!read) die(read.error());
  }

  void on_trailers(http::StreamId /*id*/, ArenaPtr /*arena*/, http::HeaderMap map) override {
    note_status(map);
  }
  void on_end(http::StreamId /*id*/) override { over(); }
  void on_stream_error(http::StreamId /*id*/, http::StreamErrorKind /*kind*/,
                       const Error& error) override {
    die(error);
  }

  void note_status(const http::HeaderMap& fields) {
    if (const auto code = fields.find("grpc-status")) {
      status_.code = status_code_of(*code).value_or(2);
      status_.message = decoded_message(fields.find("grpc-message").value_or(""));
    }
  }

  void over() {
    is_call_over_ = true;
    die({ErrorCode::kReset, ErrorSource::kUpstream, true, "the call is over"});
  }

  void on_dead(const Error& why) override {
    if (is_call_over_) return client_.on_call_over(status_);
    client_.on_lost(why);
  }

  Client& client_;
  const std::string authority_;
  std::string token_;
  http::StreamId stream_ = 0;
  FrameReader reader_;
  Status status_;
  bool is_call_over_ = false;
};

Client::Client(EventLoop& loop, ClientOptions options, ClientEvents events)
    : loop_(loop),
      options_(std::move(options)),
      events_(std::move(events)),
      random_(options_.seed) {}

Client::~Client() {
  if (!wire_) return;
  wire_->kill();
  loop_.defer_delete(std::move(wire_));
}

// Not all at once after a new version of all pods, or of the operator.
void Client::start() {
  next_ = loop_.add_timer(k8s::backoff_pause(retry_rules, 0, random_), [this] { connect(); });
}

void Client::connect() {
  Result<std::string> token = config::read_file(options_.token_file, token_bytes_max);
  if (!token) return again(token.error().message, false);
  while (!token->empty() && (token->back() == '\n' || token->back() == '\r')) token->pop_back();
  TlsClientOptions trust;
  trust.trusted_pem = options_.trusted_pem();
  trust.protocols = {"h2"};
  auto tls = make_tls_client_context(trust);
  if (!tls) return again(tls.error().message, false);
  if (!resolver_ && !is_address(options_.host)) {
    Result<std::unique_ptr<Resolver>> made = Resolver::create(loop_);
    if (!made) return again(made.error().message, false);
    resolver_ = std::move(*made);
  }
  NamedServer server{.host = options_.host, .port = options_.port, .tls = std::move(*tls)};
  server.socket_priority = options_.socket_priority;
  wire_ = std::make_unique<ClientWire>(
      loop_, *this, connect_by_name(loop_, resolver_.get(), std::move(server)),
      options_.host + ":" + std::to_string(options_.port), std::move(*token));
  wire_->start();
}

void Client::send(const v1::SidecarMessage& message) {
  if (open_) wire_->send(message);
}

void Client::restart(const std::string& why) {
  if (wire_) on_lost({ErrorCode::kReset, ErrorSource::kInternal, true, why});
}

void Client::on_open() {
  open_ = true;
  opened_at_ = loop_.now();
  elsewhere_ = 0;
  if (!trouble_.empty()) log_info("operator_found_again");
  trouble_.clear();
  events_.on_open();
}

void Client::on_call_over(const Status& status) {
  const bool elsewhere = status.code == static_cast<int>(StatusCode::kUnavailable) && !open_;
  again(status_name(status.code) + ": " + status.message, elsewhere);
}

void Client::on_lost(const Error& why) { again(why.message, false); }

void Client::again(const std::string& why, bool elsewhere) {
  if (wire_) {
    wire_->kill();
    loop_.defer_delete(std::move(wire_));
  }
  const bool was_good =
      open_ && loop_.now() - opened_at_ >= std::chrono::milliseconds(good_call_ms);
  if (was_good) failures_ = 0;
  open_ = false;
  Duration pause{};
  if (elsewhere && ++elsewhere_ < elsewhere_in_a_row_max) {
    constexpr k8s::BackoffRules soon{std::chrono::milliseconds(retry_elsewhere_ms),
                                     std::chrono::milliseconds(retry_elsewhere_ms)};
    pause = k8s::backoff_pause(soon, 0, random_);
  } else {
    elsewhere_ = 0;
    pause = k8s::backoff_pause(retry_rules, failures_++, random_);
    // Once for each kind of trouble: healing in the pod goes on without the operator.
    if (why != trouble_) log_warn("operator_not_reached", {{"reason", why}});
    trouble_ = why;
  }
  next_ = loop_.add_timer(pause, [this] { connect(); });
  events_.on_closed(why);
}

}  // namespace remora::link
