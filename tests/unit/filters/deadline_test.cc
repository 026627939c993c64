#include "filters/deadline/deadline.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/filters/fake_filter_context.h"

namespace remora {
namespace {

using namespace std::chrono_literals;

TEST(DeadlineTest, GrpcTimeouts) {
  const std::vector<std::pair<std::string, std::optional<Duration>>> table = {
      {"1H", 1h},
      {"90M", 90min},
      {"5S", 5s},
      {"200m", 200ms},
      {"7u", 7us},
      {"1n", 1ns},
      {"0S", 0s},
      {"00000001S", 1s},
      {"99999999n", 99'999'999ns},
      {"99999999M", 99'999'999min},
      // More than a Duration holds: as long as it can be, not wrapped around.
      {"99999999H", Duration::max()},
      {"2562047H", 2'562'047h},
      {"2562048H", Duration::max()},
      {"", std::nullopt},
      {"S", std::nullopt},
      {"5", std::nullopt},
      {"5s", std::nullopt},
      {"5h", std::nullopt},
      {"5 S", std::nullopt},
      {" 5S", std::nullopt},
      {"5S ", std::nullopt},
      {"-5S", std::nullopt},
      {"-0S", std::nullopt},
      {"+5S", std::nullopt},
      {"1.5S", std::nullopt},
      {"0x5S", std::nullopt},
      {"123456789S", std::nullopt},
  };
  for (const auto& [text, expected] : table) {
    EXPECT_EQ(parse_grpc_timeout(text), expected) << '"' << text << '"';
  }
}

TEST(DeadlineTest, TimeoutsInSeconds) {
  const std::vector<std::pair<std::string, std::optional<Duration>>> table = {
      {"1", 1s},
      {"1.5", 1500ms},
      {"0.001", 1ms},
      {"0.25", 250ms},
      {"86400", 24h},
      {"0030", 30s},
      {"", std::nullopt},
      {"0", std::nullopt},
      {"0.0009", std::nullopt},
      {"86400.001", std::nullopt},
      {"-1", std::nullopt},
      {"+1", std::nullopt},
      {" 1", std::nullopt},
      {"1 ", std::nullopt},
      {"1s", std::nullopt},
      {"1e3", std::nullopt},
      {"0x10", std::nullopt},
      {"nan", std::nullopt},
      {"inf", std::nullopt},
      {"infinity", std::nullopt},
      {"1,5", std::nullopt},
      {"1.2.3", std::nullopt},
      {std::string(400, '9'), std::nullopt},
  };
  for (const auto& [text, expected] : table) {
    EXPECT_EQ(parse_timeout_seconds(text), expected) << '"' << text << '"';
  }
}

struct Case {
  std::string what;
  Duration configured;
  std::vector<http::HeaderField> headers;
  std::optional<Duration> limit;
};

TEST(DeadlineTest, TheShortestCountsFromTheBeginning) {
  const std::vector<Case> table = {
      {"nothing asked", 0s, {}, std::nullopt},
      {"configured", 30s, {}, 30s},
      {"header alone", 0s, {{"X-Request-Timeout", "2.5"}}, 2500ms},
      {"header shortens", 30s, {{"x-request-timeout", "5"}}, 5s},
      {"header does not lengthen", 5s, {{"x-request-timeout", "30"}}, 5s},
      {"grpc alone", 0s, {{"grpc-timeout", "100m"}}, 100ms},
      {"grpc shorter than header", 30s, {{"x-request-timeout", "5"}, {"grpc-timeout", "1S"}}, 1s},
      {"header shorter than grpc", 30s, {{"x-request-timeout", "1"}, {"grpc-timeout", "5S"}}, 1s},
      {"malformed is as if absent", 30s, {{"x-request-timeout", "soon"}}, 30s},
      {"both malformed", 0s, {{"x-request-timeout", "-1"}, {"grpc-timeout", "5"}}, std::nullopt},
      {"already over", 30s, {{"grpc-timeout", "0S"}}, 0s},
      {"exactly a day", 0s, {{"grpc-timeout", "24H"}}, 24h},
      {"beyond a day", 0s, {{"grpc-timeout", "25H"}}, std::nullopt},
      {"as long as can be written", 0s, {{"grpc-timeout", "99999999H"}}, std::nullopt},
      {"configured with a header beyond a day", 30s, {{"grpc-timeout", "99999999H"}}, 30s},
  };
  for (const Case& c : table) {
    FakeFilterContext context;
    for (const http::HeaderField& field : c.headers) {
      context.head.headers.add(field.name, field.value);
    }
    DeadlineFilter filter({c.configured});
    EXPECT_EQ(filter.on_request_head(context), Verdict::kContinue) << c.what;
    EXPECT_EQ(context.limit(), c.limit) << c.what;
    EXPECT_FALSE(context.replied) << c.what;
  }
}

}  // namespace
}  // namespace remora
