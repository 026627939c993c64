#include "k8s/api/client.h"

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "config/read_file.h"
#include "sidecar/base/buffer.h"
#include "sidecar/http/codec.h"
#include "sidecar/net/tcp.h"

namespace remora::k8s {
namespace {

constexpr std::string_view account_dir = "/var/run/secrets/kubernetes.io/serviceaccount";
constexpr size_t message_bytes_max = 500;
constexpr size_t small_file_bytes_max = 1 << 20;

std::string_view without_line_end(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
  return text;
}

class Call final : public ApiCall, TransportEvents, http::CodecEvents {
 public:
  Call(Loop& loop, std::unique_ptr<Transport> transport, const ApiServer& server, std::string token,
       ApiRequest request, ApiClient::Done done)
      : loop_(loop),
        host_(server.name),
        token_(std::move(token)),
        request_(std::move(request)),
        done_(std::move(done)),
        codec_(http::make_h1_codec(http::Role::kClient, *this, {})),
        transport_(std::move(transport)) {
    timer_ = loop_.add_timer(std::chrono::milliseconds(request_.answer_ms_max),
                             [this] { finish(fail(ErrorCode::kTimeout, "no answer in time")); });
  }
  void start() { transport_->start(*this); }

 private:
  // TransportEvents
  void on_connected() override;
  void on_read(std::span<const uint8_t> bytes) override {
    if (over_) return;
    if (const Result<void> received = codec_->receive(bytes); !received) {
      finish(fail(ErrorCode::kProtocol, received.error().message));
    }
    flush();
  }
  void on_read_eof() override {
    if (!over_) codec_->receive_eof();
    finish(fail(ErrorCode::kReset, "the connection ended before the answer did"));
  }
  void on_writable() override { flush(); }
  void on_transport_error(const Error& error) override {
    finish(fail(ErrorCode::kUnavailable, error.message));
  }
  // CodecEvents
  void on_response(http::StreamId /*id*/, http::ResponseHead head, bool end) override {
    reply_.status = head.status;
    if (end) finish(std::move(reply_));
  }
  void on_data(http::StreamId id, std::span<const uint8_t> bytes) override;
  void on_trailers(http::StreamId /*id*/, ArenaPtr /*arena*/, http::HeaderMap /*map*/) override {}
  void on_end(http::StreamId /*id*/) override { finish(std::move(reply_)); }
  void on_stream_error(http::StreamId /*id*/, http::StreamErrorKind /*kind*/,
                       const Error& error) override {
    finish(fail(error.code, error.message));
  }
  void on_drained(http::StreamId /*id*/) override {}

  std::unexpected<Error> fail(ErrorCode code, const std::string& why) const {
    return make_error(code, ErrorSource::kUpstream,
                      request_.method + " " + request_.path + ": " + why, true);
  }
  void flush();
  // Posted: the receiver may destroy this call, which is inside an event of its transport.
  void finish(Result<ApiReply> result) {
    if (std::exchange(over_, true)) return;
    timer_ = loop_.add_timer({}, [this, result = std::move(result)]() mutable {
      ApiClient::Done done = std::move(done_);
      done(std::move(result));
    });
  }

  Loop& loop_;
  const std::string host_;
  const std::string token_;
  const ApiRequest request_;
  ApiClient::Done done_;
  ApiReply reply_;
  bool over_ = false;
  std::unique_ptr<http::Codec> codec_;
  Subscription timer_;
  std::unique_ptr<Transport> transport_;
};

void Call::on_connected() {
  http::RequestHead head;
  head.method = request_.method;
  head.scheme = "https";
  head.authority = host_;
  head.path = request_.path;
  head.headers.add("accept", "application/json");
  head.headers.add("user-agent", "remora");
  const std::string authorization = "Bearer " + token_;
  if (!token_.empty()) head.headers.add("authorization", authorization);
  const bool has_body = !request_.body.empty();
  if (has_body) {
    head.headers.add("content-type", request_.content_type);
    head.content_length = request_.body.size();
  }
  const Result<http::StreamId> stream = codec_->send_request(head, !has_body);
  if (!stream) return finish(fail(ErrorCode::kInvalidArgument, stream.error().message));
  if (has_body) codec_->send_data(*stream, as_bytes(request_.body), true);
  flush();
}

void Call::flush() {
  while (!over_) {
    const std::string_view output = codec_->pending_output();
    if (output.empty()) return;
    const Result<size_t> taken = transport_->write(as_bytes(output));
    if (!taken) return finish(fail(ErrorCode::kUnavailable, taken.error().message));
    codec_->wrote(*taken);
    if (*taken < output.size()) return;
  }
}

void Call::on_data(http::StreamId id, std::span<const uint8_t> bytes) {
  codec_->consume(id, bytes.size());
  if (over_) return;
  reply_.body += as_text(bytes);
  if (reply_.body.size() > api_reply_bytes_max) {
    finish(fail(ErrorCode::kLimitExceeded, "the answer is too large"));
  }
}

}  // namespace

Result<ApiServer> in_cluster_api_server() {
  const char* const host = std::getenv("KUBERNETES_SERVICE_HOST");
  const char* const port = std::getenv("KUBERNETES_SERVICE_PORT");
  if (host == nullptr || port == nullptr) {
    return make_error(ErrorCode::kNotFound, ErrorSource::kConfig,
                      "this is no pod: KUBERNETES_SERVICE_HOST is not set; use --api-server "
                      "http://127.0.0.1:8001 with a kubectl proxy");
  }
  ApiServer server;
  server.name = host;
  const bool is_v6 = server.name.find(':') != std::string::npos;
  Result<SocketAddress> address =
      parse_socket_address((is_v6 ? "[" + server.name + "]" : server.name) + ":" + port);
  if (!address) return std::unexpected(std::move(address.error()));
  server.address = *address;
  Result<std::string> trusted =
      config::read_file(std::string(account_dir) + "/ca.crt", small_file_bytes_max);
  if (!trusted) return std::unexpected(std::move(trusted.error()));
  server.trusted_pem = std::move(*trusted);
  server.token_file = std::string(account_dir) + "/token";
  return server;
}

Result<ApiServer> plain_api_server(std::string_view url) {
  constexpr std::string_view scheme = "http://";
  if (!url.starts_with(scheme)) {
    return make_error(
        ErrorCode::kInvalidArgument, ErrorSource::kConfig,
        "an API server outside the cluster is http://ADDRESS:PORT of a kubectl proxy");
  }
  url.remove_prefix(scheme.size());
  if (url.ends_with('/')) url.remove_suffix(1);
  Result<SocketAddress> address = parse_socket_address(std::string(url));
  if (!address) return std::unexpected(std::move(address.error()));
  ApiServer server;
  server.address = *address;
  server.name = url;
  server.tls = false;
  return server;
}

Error api_error(const ApiRequest& request, const ApiReply& reply) {
  const nlohmann::json status = nlohmann::json::parse(reply.body, nullptr, false);
  std::string message =
      status.is_object() && status.contains("message") && status["message"].is_string()
          ? status["message"].get<std::string>()
          : reply.body;
  if (message.size() > message_bytes_max) message.resize(message_bytes_max);
  const int code = reply.status;
  const ErrorCode meaning = code == 404                  ? ErrorCode::kNotFound
                            : code == 409                ? ErrorCode::kAlreadyExists
                            : code == 401 || code == 403 ? ErrorCode::kPermission
                            : code == 429 || code >= 500 ? ErrorCode::kUnavailable
                                                         : ErrorCode::kInvalidArgument;
  return make_error(
             meaning, ErrorSource::kUpstream,
             request.method + " " + request.path + ": " + std::to_string(code) + " " + message,
             meaning == ErrorCode::kUnavailable)
      .error();
}

Result<std::unique_ptr<ApiClient>> ApiClient::create(Loop& loop, ApiServer server) {
  std::shared_ptr<const TlsContext> tls;
  if (server.tls) {
    auto context = make_tls_client_context(server.trusted_pem);
    if (!context) return std::unexpected(std::move(context.error()));
    tls = std::move(*context);
  }
  return std::unique_ptr<ApiClient>(new ApiClient(loop, std::move(server), std::move(tls)));
}

ApiClient::ApiClient(Loop& loop, ApiServer server, std::shared_ptr<const TlsContext> tls)
    : loop_(loop), server_(std::move(server)), tls_(std::move(tls)) {}

std::unique_ptr<ApiCall> ApiClient::call(ApiRequest request, Done done) {
  std::string token;
  if (!server_.token_file.empty()) {
    // One that can't be read is answered 401, which says more than we could.
    if (const Result<std::string> text =
            config::read_file(server_.token_file, small_file_bytes_max)) {
      token = without_line_end(*text);
    }
  }
  std::unique_ptr<Transport> transport =
      connect_socket(loop_, server_.address, std::chrono::milliseconds(request.answer_ms_max));
  if (tls_) transport = wrap_tls_client(loop_, tls_, std::move(transport), server_.name);
  auto call = std::make_unique<Call>(loop_, std::move(transport), server_, std::move(token),
                                     std::move(request), std::move(done));
  call->start();
  return call;
}

}  // namespace remora::k8s
