// The gRPC probe against grpc.health.v1 as spoken by our own HTTP/2 codec in the server's role.
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "sidecar/base/buffer.h"
#include "sidecar/health/probe_attempt.h"
#include "sidecar/http/codec.h"
#include "sidecar/net/event_loop.h"
#include "sidecar/net/tcp.h"

namespace remora {
namespace {

using namespace std::chrono_literals;
using namespace std::string_view_literals;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// What the server says; empty parts are left out.
struct Reply {
  int status = 200;
  std::string_view message;      // the frame and what is in it
  std::string_view grpc_status;  // as a trailer, or in the head when there is no message
};

class HealthServer final : public TransportEvents, public http::CodecEvents, public Deferred {
 public:
  HealthServer(Loop& loop, UniqueFd fd, Reply reply)
      : reply_(reply),
        codec_(http::make_h2_codec(http::Role::kServer, *this, {})),
        transport_(adopt_socket(loop, std::move(fd), "probe")) {
    transport_->start(*this);
    flush();
  }
  std::string path;
  std::string content_type;
  std::string asked;

 private:
  void on_read(std::span<const uint8_t> bytes) override {
    if (!codec_->receive(bytes)) broken_ = true;
    flush();
  }
  void on_read_eof() override {}
  void on_writable() override { flush(); }
  void on_transport_error(const Error&) override { broken_ = true; }
  void flush() {
    for (std::string_view out = codec_->pending_output(); !out.empty() && !broken_;
         out = codec_->pending_output()) {
      const Result<size_t> taken = transport_->write(as_bytes(out));
      if (!taken || *taken == 0) return;
      codec_->wrote(*taken);
    }
  }

  void on_request(http::StreamId, http::RequestHead head, bool) override {
    path = head.path;
    content_type = head.headers.find("content-type").value_or("");
  }
  void on_data(http::StreamId id, std::span<const uint8_t> bytes) override {
    asked.append(as_text(bytes));
    codec_->consume(id, bytes.size());
  }
  void on_trailers(http::StreamId, ArenaPtr, http::HeaderMap) override {}
  void on_end(http::StreamId id) override {
    http::HeaderMap trailers;
    if (!reply_.grpc_status.empty()) trailers.add("grpc-status", reply_.grpc_status);
    http::ResponseHead head;
    head.version = http::Version::kHttp2;
    head.status = reply_.status;
    head.headers.add("content-type", "application/grpc");
    if (reply_.message.empty()) {
      if (!reply_.grpc_status.empty()) head.headers.add("grpc-status", reply_.grpc_status);
      codec_->send_response(id, head, true);
      return;
    }
    codec_->send_response(id, head, false);
    codec_->send_data(id, as_bytes(reply_.message), trailers.empty());
    if (!trailers.empty()) codec_->send_trailers(id, trailers);
  }
  void on_stream_error(http::StreamId, http::StreamErrorKind, const Error&) override {}
  void on_drained(http::StreamId) override {}

  const Reply reply_;
  bool broken_ = false;
  std::unique_ptr<http::Codec> codec_;
  std::unique_ptr<Transport> transport_;
};

class GrpcProbing : public testing::Test {
 protected:
  // accept: false leaves the connection in the backlog.
  ProbeAnswer ask(const Reply& reply, const std::string& service = "", bool accept = true) {
    const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const SocketAddress any = *parse_socket_address("127.0.0.1:0");
    EXPECT_EQ(::bind(listener.get(), any.get(), any.length()), 0);
    EXPECT_EQ(::listen(listener.get(), 1), 0);
    std::unique_ptr<FdWatch> watch;
    if (accept) {
      watch = loop_.watch_fd(listener.get(), FdEvents::kRead, [&](FdEvents) {
        UniqueFd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (fd) server_ = std::make_unique<HealthServer>(loop_, std::move(fd), reply);
      });
    }
    std::optional<ProbeAnswer> got;
    std::unique_ptr<ProbeAttempt> attempt =
        start_probe(loop_, GrpcProbe{.address = *local_address(listener.get()), .service = service},
                    accept ? 10s : 50ms, [&](ProbeAnswer answer) {
                      got = std::move(answer);
                      attempt.reset();
                      loop_.stop();
                    });
    loop_.run();
    return *got;
  }

  EventLoop loop_;
  std::unique_ptr<HealthServer> server_;
};

constexpr auto kServing = "\0\0\0\0\2\x08\1"sv;

TEST_F(GrpcProbing, ServingIsHealthy) {
  const ProbeAnswer answer = ask({.message = kServing, .grpc_status = "0"}, "agent.Chat");
  EXPECT_TRUE(answer.ok) << answer.reason;
  EXPECT_EQ(server_->path, "/grpc.health.v1.Health/Check");
  EXPECT_EQ(server_->content_type, "application/grpc");
  EXPECT_EQ(server_->asked,
            "\0\0\0\0\x0c\x0a\x0a"sv
            "agent.Chat"sv);
}

TEST_F(GrpcProbing, AsksForTheWholeServerWithAnEmptyMessage) {
  ask({.message = kServing, .grpc_status = "0"});
  EXPECT_EQ(server_->asked, "\0\0\0\0\0"sv);
}

TEST_F(GrpcProbing, LongServiceNamesHaveLongLengths) {
  const std::string name(300, 's');
  EXPECT_TRUE(ask({.message = kServing, .grpc_status = "0"}, name).ok);
  EXPECT_EQ(server_->asked, std::string("\0\0\0\1\x2f\x0a\xac\2"sv) + name);
}

struct Case {
  const char* name;
  Reply reply;
  const char* reason;  // its end
};
class GrpcFailures : public GrpcProbing, public testing::WithParamInterface<Case> {};

TEST_P(GrpcFailures, SayWhy) {
  const ProbeAnswer answer = ask(GetParam().reply, "chat");
  EXPECT_FALSE(answer.ok);
  EXPECT_FALSE(answer.timed_out);
  EXPECT_THAT(answer.reason, StartsWith("grpc.health.v1.Health/Check \"chat\": "));
  EXPECT_THAT(answer.reason, EndsWith(GetParam().reason));
}

const Case kCases[] = {
    {"NotServing", {.message = "\0\0\0\0\2\x08\2"sv, .grpc_status = "0"}, ": NOT_SERVING"},
    {"ServiceUnknown", {.message = "\0\0\0\0\2\x08\3"sv, .grpc_status = "0"}, ": SERVICE_UNKNOWN"},
    {"UnknownIsLeftOut", {.message = "\0\0\0\0\0"sv, .grpc_status = "0"}, ": UNKNOWN"},
    {"BeyondTheKnown", {.message = "\0\0\0\0\2\x08\x7f"sv, .grpc_status = "0"}, "SERVICE_UNKNOWN"},
    {"CutShort", {.message = "\0\0"sv, .grpc_status = "0"}, ": UNKNOWN"},
    {"Unimplemented", {.message = {}, .grpc_status = "12"}, "has no grpc.health.v1.Health service"},
    {"NotFound", {.message = {}, .grpc_status = "5"}, "does not know this service name"},
    {"OtherStatus", {.message = {}, .grpc_status = "14"}, ": grpc-status 14"},
    {"ServingButFailed", {.message = kServing, .grpc_status = "13"}, ": grpc-status 13"},
    {"NoStatus", {.message = kServing, .grpc_status = {}}, ": grpc-status missing"},
    {"NotGrpc", {.status = 404, .message = "no"sv, .grpc_status = {}}, ": HTTP 404"},
};
INSTANTIATE_TEST_SUITE_P(All, GrpcFailures, testing::ValuesIn(kCases),
                         [](const auto& made) { return std::string(made.param.name); });

TEST_F(GrpcProbing, SilenceTimesOut) {
  const ProbeAnswer answer = ask({}, "", false);
  EXPECT_FALSE(answer.ok);
  EXPECT_TRUE(answer.timed_out);
  EXPECT_THAT(answer.reason, HasSubstr("no answer within"));
}

}  // namespace
}  // namespace remora
