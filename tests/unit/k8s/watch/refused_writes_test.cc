#include "k8s/watch/refused_writes.h"

#include <gtest/gtest.h>

namespace remora::k8s {
namespace {

TEST(RefusedWritesTest, OnlyWhatIsWrongIsAFailureAndAllOfThemAreDecidedAgain) {
  MetricRegistry registry;
  Counter& failures = registry.counter("failures_total", "Of a test.");
  RefusedWrites refused("not_written", "thing", failures);
  const ApiRequest patch{.method = "PATCH", .path = "/x"};
  EXPECT_TRUE(refused.outcome("n/a", patch, ApiReply{409, "{}"}).failed);
  EXPECT_EQ(failures.value(), 0U);
  EXPECT_FALSE(refused.outcome("n/a", patch, ApiReply{422, "{}"}).again_after);
  const WorkOutcome later =
      refused.outcome("n/a", patch, ApiReply{429, "{}", std::chrono::seconds(7)});
  EXPECT_TRUE(later.failed);
  EXPECT_EQ(later.again_after, std::chrono::seconds(7));
  EXPECT_EQ(failures.value(), 2U);
}

}  // namespace
}  // namespace remora::k8s
