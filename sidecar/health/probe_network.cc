// HTTP, TCP and gRPC probes: one connection each, closed with the attempt.
#include <algorithm>

#include <fmt/format.h>

#include "sidecar/base/buffer.h"
#include "sidecar/health/probe_attempt.h"
#include "sidecar/http/codec.h"
#include "sidecar/net/tcp.h"
#include "sidecar/net/tls.h"

namespace remora {
namespace {

// Its own time limit would be one more answer to the attempt's question.
std::unique_ptr<Transport> connect_to(Loop& loop, const SocketAddress& address) {
  return connect_socket(loop, address, Duration::zero());
}

std::unique_ptr<Transport> connect_to(Loop& loop, const HttpProbe& probe) {
  std::unique_ptr<Transport> plain = connect_to(loop, probe.address);
  if (!probe.tls) return plain;
  // One for all: nothing in it belongs to an agent.
  static const auto context = make_tls_client_context(std::string_view());
  if (!context) std::abort();  // only trusted certificates can be wrong
  return wrap_tls_client(loop, *context, std::move(plain), probe.host);
}

// What all three share: a connection, a time limit, and exactly one answer.
class NetworkAttempt : public ProbeAttempt, public TransportEvents {
 public:
  NetworkAttempt(Loop& loop, std::unique_ptr<Transport> transport, Duration timeout,
                 std::string what, ProbeDone done)
      : loop_(loop),
        what_(std::move(what)),
        done_(std::move(done)),
        transport_(std::move(transport)) {
    timer_ = loop_.add_timer(timeout, [this, timeout] {
      answer({.ok = false,
              .timed_out = true,
              .reason = fmt::format("{}: no answer within {:.1f} s", what_, to_seconds(timeout))});
    });
  }

  void begin() { transport_->start(*this); }

  void on_transport_error(const Error& error) override { fail(error.message); }
  void on_read_eof() override { fail("the connection was closed without an answer"); }
  void on_writable() override { flush(); }
  void on_read(std::span<const uint8_t> /*bytes*/) override {}

 protected:
  virtual std::string_view pending() { return {}; }
  virtual void wrote(size_t /*n*/) {}

  void flush() {
    while (!answered_) {
      const std::string_view output = pending();
      if (output.empty()) return;
      const Result<size_t> taken = transport_->write(as_bytes(output));
      if (!taken) {
        fail(taken.error().message);
        return;
      }
      wrote(*taken);
      if (*taken < output.size()) return;
    }
  }
  void fail(std::string_view why) {
    answer({.ok = false, .timed_out = false, .reason = fmt::format("{}: {}", what_, why)});
  }
  void succeed() { answer({.ok = true, .timed_out = false, .reason = {}}); }
  void answer(ProbeAnswer outcome) {
    if (std::exchange(answered_, true)) return;
    timer_.cancel();
    // Posted, because the receiver destroys this attempt. The timer dies with the attempt.
    timer_ = loop_.add_timer(Duration::zero(), [this, outcome = std::move(outcome)]() mutable {
      ProbeDone done = std::move(done_);
      done(std::move(outcome));
    });
  }
  bool answered() const { return answered_; }

  Loop& loop_;
  const std::string what_;

 private:
  ProbeDone done_;
  bool answered_ = false;
  Subscription timer_;
  // Dies with the attempt, never later: what it has still to tell in this round of events would
  // find nobody. Nor from inside one of its events, because answers are posted.
  std::unique_ptr<Transport> transport_;
};

class TcpAttempt final : public NetworkAttempt {
 public:
  using NetworkAttempt::NetworkAttempt;

 private:
  void on_connected() override { succeed(); }
};

// HTTP/1.1 and gRPC: a request through one of the client codecs.
class CodecAttempt : public NetworkAttempt, public http::CodecEvents {
 public:
  CodecAttempt(Loop& loop, std::unique_ptr<Transport> transport, Duration timeout, std::string what,
               ProbeDone done, bool http2)
      : NetworkAttempt(loop, std::move(transport), timeout, std::move(what), std::move(done)),
        codec_(http2 ? http::make_h2_codec(http::Role::kClient, *this, limits_)
                     : http::make_h1_codec(http::Role::kClient, *this, limits_)) {}

  void on_connected() override {
    send();
    flush();
  }
  void on_read(std::span<const uint8_t> bytes) override {
    if (answered()) return;
    if (const Result<void> received = codec_->receive(bytes); !received) {
      fail(received.error().message);
      return;
    }
    flush();
  }
  void on_read_eof() override {
    if (!answered()) codec_->receive_eof();
    NetworkAttempt::on_read_eof();
  }
  void on_data(http::StreamId id, std::span<const uint8_t> bytes) override {
    if (body_.size() < probe_answer_bytes_max) {
      body_.append(
          as_text(bytes.first(std::min(bytes.size(), probe_answer_bytes_max - body_.size()))));
    }
    codec_->consume(id, bytes.size());
  }
  void on_stream_error(http::StreamId, http::StreamErrorKind, const Error& error) override {
    fail(error.message);
  }
  void on_drained(http::StreamId) override {}

 protected:
  virtual void send() = 0;
  std::string_view pending() override { return codec_->pending_output(); }
  void wrote(size_t n) override { codec_->wrote(n); }

  http::CodecLimits limits_;
  std::unique_ptr<http::Codec> codec_;
  std::string body_;
};

class HttpAttempt final : public CodecAttempt {
 public:
  HttpAttempt(Loop& loop, const HttpProbe& probe, Duration timeout, ProbeDone done)
      : CodecAttempt(loop, connect_to(loop, probe), timeout, "GET " + probe.path, std::move(done),
                     false),
        probe_(probe) {}

 private:
  void send() override {
    http::RequestHead head;
    head.method = "GET";
    head.scheme = probe_.tls ? "https" : "http";
    head.path = probe_.path;
    head.authority =
        head.arena->copy(probe_.host.empty() ? probe_.address.to_string() : probe_.host);
    head.headers.add("User-Agent", "remora-probe");
    head.headers.add("Accept", "*/*");
    for (const auto& [name, value] : probe_.headers) {
      if (http::iequals(name, "host")) {
        head.authority = value;
      } else {
        head.headers.add(name, value);
      }
    }
    if (const auto sent = codec_->send_request(head, true); !sent) fail(sent.error().message);
  }
  void on_response(http::StreamId, http::ResponseHead head, bool end) override {
    status_ = head.status;
    // A healthy head is enough; an unhealthy one often has a body that says why.
    if (status_ >= 200 && status_ < 400) {
      succeed();
    } else if (end) {
      refuse();
    }
  }
  void on_trailers(http::StreamId, ArenaPtr, http::HeaderMap) override {}
  void on_end(http::StreamId) override { refuse(); }
  void refuse() {
    const std::string why = answer_excerpt(body_);
    fail(fmt::format("HTTP {}{}{}", status_, why.empty() ? "" : ": ", why));
  }

  const HttpProbe probe_;
  int status_ = 0;
};

// The few bytes of protobuf that grpc.health.v1 needs: HealthCheckRequest{string service = 1} and
// HealthCheckResponse{ServingStatus status = 1}, in gRPC's length-prefixed frames.
std::string health_request_frame(std::string_view service) {
  std::string message;
  if (!service.empty()) {
    message += '\x0a';
    for (size_t n = service.size(); true; n >>= 7) {
      message += static_cast<char>((n & 0x7F) | (n > 0x7F ? 0x80 : 0));
      if (n <= 0x7F) break;
    }
    message += service;
  }
  std::string frame(1, '\0');
  for (int shift = 24; shift >= 0; shift -= 8) {
    frame += static_cast<char>((message.size() >> shift) & 0xFF);
  }
  return frame + message;
}

// 1 is SERVING; 0 (UNKNOWN, the default) when the field is absent.
int health_status_of(std::string_view frame) {
  constexpr size_t kPrefix = 5;
  if (frame.size() < kPrefix + 2 || frame[kPrefix] != '\x08') return 0;
  return static_cast<uint8_t>(frame[kPrefix + 1]);
}

class GrpcAttempt final : public CodecAttempt {
 public:
  GrpcAttempt(Loop& loop, const GrpcProbe& probe, Duration timeout, ProbeDone done)
      : CodecAttempt(loop, connect_to(loop, probe.address), timeout,
                     "grpc.health.v1.Health/Check \"" + probe.service + "\"", std::move(done),
                     true),
        probe_(probe) {}

 private:
  void send() override {
    http::RequestHead head;
    head.version = http::Version::kHttp2;
    head.method = "POST";
    head.scheme = "http";
    head.path = "/grpc.health.v1.Health/Check";
    head.authority = head.arena->copy(probe_.address.to_string());
    head.headers.add("content-type", "application/grpc");
    head.headers.add("te", "trailers");
    head.headers.add("user-agent", "remora-probe");
    const auto id = codec_->send_request(head, false);
    if (!id) {
      fail(id.error().message);
      return;
    }
    codec_->send_data(*id, as_bytes(health_request_frame(probe_.service)), true);
  }
  void on_response(http::StreamId, http::ResponseHead head, bool end) override {
    if (head.status != 200) {
      fail(fmt::format("HTTP {}", head.status));
    } else {
      note_status(head.headers);
      if (end) conclude();
    }
  }
  void on_trailers(http::StreamId, ArenaPtr, http::HeaderMap trailers) override {
    note_status(trailers);
  }
  void on_end(http::StreamId) override { conclude(); }
  void note_status(const http::HeaderMap& fields) {
    if (const auto status = fields.find("grpc-status")) grpc_status_ = *status;
  }
  void conclude() {
    static constexpr std::string_view kNames[] = {"UNKNOWN", "SERVING", "NOT_SERVING",
                                                  "SERVICE_UNKNOWN"};
    const int status = health_status_of(body_);
    if (grpc_status_ == "0" && status == 1) {
      succeed();
    } else if (grpc_status_ == "12") {
      fail("UNIMPLEMENTED: the agent has no grpc.health.v1.Health service");
    } else if (grpc_status_ == "5") {
      fail("NOT_FOUND: the agent does not know this service name");
    } else if (grpc_status_ != "0") {
      fail("grpc-status " + (grpc_status_.empty() ? "missing" : grpc_status_));
    } else {
      fail(kNames[std::min<size_t>(static_cast<size_t>(status), 3)]);
    }
  }

  const GrpcProbe probe_;
  std::string grpc_status_;
};

template <typename Attempt>
std::unique_ptr<ProbeAttempt> begun(std::unique_ptr<Attempt> attempt) {
  attempt->begin();
  return attempt;
}

}  // namespace

std::unique_ptr<ProbeAttempt> start_attempt(Loop& loop, const HttpProbe& probe, Duration timeout,
                                            ProbeDone done) {
  return begun(std::make_unique<HttpAttempt>(loop, probe, timeout, std::move(done)));
}
std::unique_ptr<ProbeAttempt> start_attempt(Loop& loop, const TcpProbe& probe, Duration timeout,
                                            ProbeDone done) {
  return begun(std::make_unique<TcpAttempt>(loop, connect_to(loop, probe.address), timeout,
                                            "connect to " + probe.address.to_string(),
                                            std::move(done)));
}
std::unique_ptr<ProbeAttempt> start_attempt(Loop& loop, const GrpcProbe& probe, Duration timeout,
                                            ProbeDone done) {
  return begun(std::make_unique<GrpcAttempt>(loop, probe, timeout, std::move(done)));
}

}  // namespace remora
