#include "filters/limits/limits.h"

#include <array>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/filters/fake_filter_context.h"

namespace remora {
namespace {

using http::Problem;

TEST(LimitsTest, RequestsInFlightAreBoundedAndRoomComesBack) {
  LimitsFilter filter({.request_body_bytes_max = 0, .requests_in_flight_max = 2});
  std::array<FakeFilterContext, 3> contexts;
  EXPECT_EQ(filter.on_request_head(contexts[0]), Verdict::kContinue);
  EXPECT_EQ(filter.on_request_head(contexts[1]), Verdict::kContinue);
  EXPECT_EQ(filter.on_request_head(contexts[2]), Verdict::kReply);
  EXPECT_EQ(contexts[2].replied, Problem::kOverloaded);
  EXPECT_FALSE(contexts[0].replied);

  // The refused one ends too, and its end gives nobody else's place away.
  filter.on_end(contexts[2]);
  FakeFilterContext still_too_many;
  EXPECT_EQ(filter.on_request_head(still_too_many), Verdict::kReply);
  filter.on_end(still_too_many);

  filter.on_end(contexts[0]);
  FakeFilterContext next;
  EXPECT_EQ(filter.on_request_head(next), Verdict::kContinue);
}

TEST(LimitsTest, AnAnnouncedBodyIsRefusedBeforeItComes) {
  LimitsFilter filter({.request_body_bytes_max = 100, .requests_in_flight_max = 10});
  FakeFilterContext fits;
  fits.head.content_length = 100;
  EXPECT_EQ(filter.on_request_head(fits), Verdict::kContinue);
  FakeFilterContext too_large;
  too_large.head.content_length = 101;
  EXPECT_EQ(filter.on_request_head(too_large), Verdict::kReply);
  EXPECT_EQ(too_large.replied, Problem::kBodyTooLarge);
}

TEST(LimitsTest, AnUnannouncedBodyIsRefusedWhereItPassesTheLimit) {
  LimitsFilter filter({.request_body_bytes_max = 100, .requests_in_flight_max = 10});
  FakeFilterContext context;
  EXPECT_EQ(filter.on_request_head(context), Verdict::kContinue);
  context.exchange.request_body_bytes = 100;
  EXPECT_EQ(filter.on_request_data(context, {}), Verdict::kContinue);
  context.exchange.request_body_bytes = 101;
  EXPECT_EQ(filter.on_request_data(context, {}), Verdict::kReply);
  EXPECT_EQ(context.replied, Problem::kBodyTooLarge);
}

TEST(LimitsTest, ZeroMeansAnyBody) {
  LimitsFilter filter({.request_body_bytes_max = 0, .requests_in_flight_max = 10});
  FakeFilterContext context;
  context.head.content_length = uint64_t{1} << 60;
  EXPECT_EQ(filter.on_request_head(context), Verdict::kContinue);
  context.exchange.request_body_bytes = uint64_t{1} << 60;
  EXPECT_EQ(filter.on_request_data(context, {}), Verdict::kContinue);
  EXPECT_FALSE(context.replied);
}

TEST(LimitsTest, TooManyIsSaidBeforeTooLarge) {
  LimitsFilter filter({.request_body_bytes_max = 1, .requests_in_flight_max = 1});
  FakeFilterContext first;
  FakeFilterContext second;
  second.head.content_length = 1000;
  filter.on_request_head(first);
  filter.on_request_head(second);
  EXPECT_EQ(second.replied, Problem::kOverloaded);
}

}  // namespace
}  // namespace remora
