// What the access log says, and what it must never say.
#include "filters/access_log/access_log.h"

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sidecar/base/log.h"
#include "tests/unit/filters/fake_filter_context.h"

namespace remora {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;
using namespace std::chrono_literals;

std::string logged(FakeFilterContext& context) {
  AccessLogFilter filter;
  testing::internal::CaptureStderr();
  filter.on_request_head(context);
  filter.on_request_data(context, {});
  http::ResponseHead response;
  filter.on_response_head(context, response);
  filter.on_end(context);
  flush_log();
  return testing::internal::GetCapturedStderr();
}

TEST(AccessLogTest, OneLineAtTheEnd) {
  FakeFilterContext context;
  context.exchange.status = 502;
  context.exchange.problem = http::Problem::kOutcomeUnknown;
  context.exchange.request_body_bytes = 11;
  context.exchange.response_body_bytes = 22;
  context.exchange.replays = 1;
  context.exchange.held = 250ms;
  context.exchange.ended_at = context.exchange.began_at + 1500ms;
  const json line = json::parse(logged(context));
  EXPECT_EQ(line["level"], "info");
  EXPECT_EQ(line["event"], "request");
  EXPECT_EQ(line["listener"], "inbound");
  EXPECT_EQ(line["peer"], "127.0.0.1:5555");
  EXPECT_EQ(line["method"], "POST");
  EXPECT_EQ(line["path"], "/invoke");
  EXPECT_EQ(line["status"], 502);
  EXPECT_EQ(line["problem"], "outcome-unknown");
  EXPECT_EQ(line["complete"], false);
  EXPECT_EQ(line["request_bytes"], 11);
  EXPECT_EQ(line["response_bytes"], 22);
  EXPECT_EQ(line["duration_s"], 1.5);
  EXPECT_EQ(line["held_s"], 0.25);
  EXPECT_EQ(line["replays"], 1);
}

TEST(AccessLogTest, NeverQueryNorHeaders) {
  for (const std::string path :
       {"/a?token=secret", "/a?", "/a?b?secret", "?secret", "/a?x=/secret"}) {
    FakeFilterContext context;
    context.head.path = path;
    context.head.authority = "secret.example";
    context.head.headers.add("authorization", "Bearer secret");
    context.head.headers.add("cookie", "secret");
    context.head.headers.add("x-secret", "1");
    const std::string line = logged(context);
    EXPECT_THAT(line, Not(HasSubstr("secret"))) << path;
    EXPECT_EQ(json::parse(line)["path"], path.substr(0, path.find('?')));
  }
}

TEST(AccessLogTest, HostileTextStaysOneLine) {
  FakeFilterContext context;
  context.head.path = "/\n{\"level\":\"error\"}\xff";
  const std::string line = logged(context);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  EXPECT_EQ(json::parse(line)["path"], "/\n{\"level\":\"error\"}\uFFFD");
}

}  // namespace
}  // namespace remora
