// Which filters an inbound listener has, and in which order a request meets them.
#include "filters/registry.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "filters/access_log/access_log.h"
#include "tests/unit/filters/fake_filter_context.h"

namespace remora {
namespace {

using testing::ElementsAre;
using namespace std::chrono_literals;

struct CountingObserver final : RequestObserver {
  void on_request_finished(const ExchangeInfo& info) override { statuses.push_back(info.status); }
  std::vector<int> statuses;
};

std::string name_of(const Filter& filter) {
  if (dynamic_cast<const AccessLogFilter*>(&filter) != nullptr) return "access_log";
  if (dynamic_cast<const ObserveFilter*>(&filter) != nullptr) return "observe";
  if (dynamic_cast<const LimitsFilter*>(&filter) != nullptr) return "limits";
  if (dynamic_cast<const DeadlineFilter*>(&filter) != nullptr) return "deadline";
  return "unknown";
}

std::vector<std::string> names_of(const std::vector<std::unique_ptr<Filter>>& filters) {
  std::vector<std::string> names;
  for (const auto& filter : filters) names.push_back(name_of(*filter));
  return names;
}

TEST(RegistryTest, TheOrder) {
  CountingObserver observer;
  InboundFilterOptions options;
  EXPECT_THAT(names_of(make_inbound_filters(options, observer)),
              ElementsAre("observe", "limits", "deadline"));
  options.access_log = true;
  EXPECT_THAT(names_of(make_inbound_filters(options, observer)),
              ElementsAre("access_log", "observe", "limits", "deadline"));
}

TEST(RegistryTest, EachFilterGetsItsOptions) {
  CountingObserver observer;
  InboundFilterOptions options;
  options.deadline.request_timeout = 7s;
  options.limits.requests_in_flight_max = 1;
  options.limits.request_body_bytes_max = 10;
  const auto filters = make_inbound_filters(options, observer);
  FakeFilterContext context;
  for (const auto& filter : filters) {
    EXPECT_EQ(filter->on_request_head(context), Verdict::kContinue) << name_of(*filter);
  }
  EXPECT_EQ(context.limit(), 7s);

  FakeFilterContext second;
  const bool refused = std::any_of(filters.begin(), filters.end(), [&](const auto& filter) {
    return filter->on_request_head(second) == Verdict::kReply;
  });
  EXPECT_TRUE(refused);
  EXPECT_EQ(second.replied, http::Problem::kOverloaded);
}

TEST(ObserveTest, TellsOfEachEndOnce) {
  CountingObserver observer;
  ObserveFilter filter(observer);
  FakeFilterContext context;
  filter.on_request_head(context);
  EXPECT_TRUE(observer.statuses.empty());
  context.exchange.status = 204;
  filter.on_end(context);
  EXPECT_THAT(observer.statuses, ElementsAre(204));
}

}  // namespace
}  // namespace remora
