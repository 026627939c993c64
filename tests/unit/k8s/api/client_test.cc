// The API client over real sockets, with servers that answer, refuse, stall and break off.
#include "k8s/api/client.h"

#include <cstdlib>
#include <ctime>
#include <fstream>
#include <optional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "sidecar/net/certificates.h"
#include "sidecar/serve/http_server.h"
#include "tests/unit/k8s/api/fake_api.h"

namespace remora::k8s {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using namespace std::chrono_literals;

class ApiClientTest : public testing::Test {
 protected:
  Result<ApiReply> ask(const ApiServer& server, const ApiRequest& request) {
    auto client = ApiClient::create(loop(), server);
    EXPECT_TRUE(client.has_value());
    std::optional<Result<ApiReply>> reply;
    const auto call =
        (*client)->call(request, [&](Result<ApiReply> received) { reply = std::move(received); });
    EXPECT_FALSE(reply) << "answered from inside the call";
    EXPECT_TRUE(runner_.run_until([&] { return reply.has_value(); }));
    return *reply;
  }
  EventLoop& loop() { return runner_.loop(); }

  LoopRunner runner_;
};

TEST_F(ApiClientTest, AsksAndReadsTheWholeAnswer) {
  FakeApi api(loop(), [](const std::string&) { return FakeApi::json(200, R"({"items":[]})"); });
  const auto reply = ask(api.server(), {.path = "/api/v1/pods?limit=5"});
  ASSERT_TRUE(reply.has_value()) << reply.error().message;
  EXPECT_EQ(reply->status, 200);
  EXPECT_EQ(reply->body, R"({"items":[]})");
  ASSERT_EQ(api.requests().size(), 1u);
  EXPECT_THAT(api.requests()[0], StartsWith("GET /api/v1/pods?limit=5 HTTP/1.1\r\n"));
  EXPECT_THAT(api.requests()[0], HasSubstr("accept: application/json\r\n"));
  EXPECT_THAT(api.requests()[0], Not(HasSubstr("authorization")));
}

TEST_F(ApiClientTest, SendsABodyWithItsType) {
  FakeApi api(loop(), [](const std::string&) { return FakeApi::json(201, "{}"); });
  const std::string body(300'000, 'b');
  const auto reply = ask(api.server(), {.method = "PATCH",
                                        .path = "/x",
                                        .body = body,
                                        .content_type = "application/json-patch+json"});
  ASSERT_TRUE(reply.has_value());
  EXPECT_THAT(api.requests()[0], HasSubstr("content-type: application/json-patch+json\r\n"));
  EXPECT_TRUE(api.requests()[0].ends_with("\r\n\r\n" + body));
}

TEST_F(ApiClientTest, TheTokenIsReadForEachRequest) {
  FakeApi api(loop(), [](const std::string&) { return FakeApi::json(200, "{}"); });
  ApiServer server = api.server();
  server.token_file = testing::TempDir() + "remora_token_" + std::to_string(::getpid());
  for (const char* token : {"first", "second"}) {
    std::ofstream(server.token_file) << token << "\n";
    ASSERT_TRUE(ask(server, {.path = "/x"}).has_value());
    EXPECT_THAT(api.requests().back(),
                HasSubstr(std::string("authorization: Bearer ") + token + "\r\n"));
  }
  ::unlink(server.token_file.c_str());
}

TEST_F(ApiClientTest, AnAnswerWithoutLengthEndsWithItsConnection) {
  FakeApi api(loop(), [](const std::string&) { return "HTTP/1.1 200 OK\r\n\r\nto the end"; });
  api.closes = true;
  const auto reply = ask(api.server(), {.path = "/x"});
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->body, "to the end");
}

TEST_F(ApiClientTest, WhatGoesWrongHasAName) {
  struct Case {
    std::string answer;
    bool closes;
    ErrorCode code;
  };
  const Case cases[] = {
      {"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", true, ErrorCode::kReset},
      {"SSH-2.0-OpenSSH\r\n\r\n", false, ErrorCode::kProtocol},
      {"", false, ErrorCode::kTimeout},
      {"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nstalls", false, ErrorCode::kTimeout},
      {FakeApi::json(200, std::string(api_reply_bytes_max + 1, 'x')), false,
       ErrorCode::kLimitExceeded},
  };
  for (const Case& c : cases) {
    FakeApi api(loop(), [&](const std::string&) { return c.answer; });
    api.closes = c.closes;
    const int limit_ms = c.code == ErrorCode::kTimeout ? 30 : api_answer_ms_max;
    const auto reply = ask(api.server(), {.path = "/x", .answer_ms_max = limit_ms});
    ASSERT_FALSE(reply.has_value()) << c.answer.substr(0, 60);
    EXPECT_EQ(reply.error().code, c.code) << reply.error().message;
    EXPECT_THAT(reply.error().message, StartsWith("GET /x: "));
    EXPECT_TRUE(reply.error().retryable);
  }
}

TEST_F(ApiClientTest, NobodyThereIsUnavailable) {
  ApiServer server;
  {
    const FakeApi gone(loop(), {});
    server = gone.server();
  }
  const auto reply = ask(server, {.path = "/x"});
  ASSERT_FALSE(reply.has_value());
  EXPECT_EQ(reply.error().code, ErrorCode::kUnavailable);
}

TEST_F(ApiClientTest, AnAbandonedCallNeverAnswers) {
  std::unique_ptr<ApiCall> call;
  FakeApi api(loop(), [&](const std::string&) {
    call.reset();
    return FakeApi::json(200, "{}");
  });
  auto client = ApiClient::create(loop(), api.server());
  bool answered = false;
  call = (*client)->call({.path = "/x"}, [&](const Result<ApiReply>&) { answered = true; });
  ASSERT_TRUE(runner_.run_until([&] { return api.requests().size() == 1; }));
  runner_.run_for(20ms);
  EXPECT_FALSE(answered);
}

TEST_F(ApiClientTest, ACallMayBeReplacedFromItsOwnAnswer) {
  FakeApi api(loop(), [](const std::string&) { return FakeApi::json(200, "{}"); });
  auto client = ApiClient::create(loop(), api.server());
  int answers = 0;
  std::unique_ptr<ApiCall> call;
  std::function<void()> again = [&] {
    call = (*client)->call({.path = "/x"}, [&](const Result<ApiReply>& reply) {
      EXPECT_TRUE(reply.has_value());
      if (++answers < 5) again();
    });
  };
  again();
  ASSERT_TRUE(runner_.run_until([&] { return answers == 5; }));
}

TEST_F(ApiClientTest, OverTlsOnlyTheTrustedServerIsTalkedTo) {
  const int64_t now = std::time(nullptr);
  const CertifiedKey authority = *make_authority("a", {now - 100, now + 1000});
  const CertifiedKey other = *make_authority("b", {now - 100, now + 1000});
  const std::vector<std::string> names = {"127.0.0.1"};
  const CertifiedKey own = *issue_server_certificate(authority, names, {now - 100, now + 1000});
  HttpServerOptions options;
  const auto tls = *make_tls_server_context({own.certificate_pem, own.private_key_pem});
  options.tls = [&] { return tls; };
  const auto http = HttpServer::start(
      loop(), *parse_socket_address("127.0.0.1:0"), options,
      [](const ServerRequest&, ServerRespond respond) { respond({.body = "{}"}); });
  ASSERT_TRUE(http.has_value());
  ApiServer server;
  server.address = (*http)->address();
  server.name = "127.0.0.1";
  server.trusted_pem = authority.certificate_pem;
  const auto reply = ask(server, {.path = "/x"});
  ASSERT_TRUE(reply.has_value()) << reply.error().message;
  EXPECT_EQ(reply->status, 200);
  server.trusted_pem = other.certificate_pem;
  const auto refused = ask(server, {.path = "/x"});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(refused.error().message, HasSubstr("certificate verify failed"));
  server.trusted_pem = "nonsense";
  EXPECT_EQ(ApiClient::create(loop(), server).error().code, ErrorCode::kInvalidArgument);
}

TEST(ApiServerTest, OutsideAPodTheErrorSaysWhatToDo) {
  ::unsetenv("KUBERNETES_SERVICE_HOST");
  const auto server = in_cluster_api_server();
  ASSERT_FALSE(server.has_value());
  EXPECT_EQ(server.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(server.error().message, HasSubstr("--api-server"));
}

TEST(ApiServerTest, AnAddressIsOfAPlainProxy) {
  EXPECT_EQ(plain_api_server("http://127.0.0.1:8001/")->name, "127.0.0.1:8001");
  for (const char* bad :
       {"", "127.0.0.1:8001", "https://127.0.0.1:8001", "http://", "http://a:b"}) {
    EXPECT_EQ(plain_api_server(bad).error().code, ErrorCode::kInvalidArgument) << bad;
  }
}

TEST(ApiErrorTest, AStatusHasAMeaningAndTheServersWords) {
  const ApiRequest request{.method = "PUT", .path = "/x"};
  const std::pair<int, ErrorCode> cases[] = {
      {404, ErrorCode::kNotFound},       {409, ErrorCode::kAlreadyExists},
      {401, ErrorCode::kPermission},     {403, ErrorCode::kPermission},
      {429, ErrorCode::kUnavailable},    {503, ErrorCode::kUnavailable},
      {422, ErrorCode::kInvalidArgument}};
  for (const auto& [status, code] : cases) {
    const Error error = api_error(request, {status, R"({"kind":"Status","message":"no room"})"});
    EXPECT_EQ(error.code, code) << status;
    EXPECT_EQ(error.message, "PUT /x: " + std::to_string(status) + " no room");
    EXPECT_EQ(error.retryable, code == ErrorCode::kUnavailable);
  }
  EXPECT_LT(api_error(request, {500, std::string(100'000, 'x')}).message.size(), 1000u);
}

}  // namespace
}  // namespace remora::k8s
