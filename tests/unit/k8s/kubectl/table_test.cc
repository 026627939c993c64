#include "k8s/kubectl/table.h"

#include <gtest/gtest.h>

namespace remora::k8s {
namespace {

TEST(TableTest, ColumnsAreAsWideAsTheyMustBe) {
  EXPECT_EQ(render_table({"POD", "STATE"}, {{"agent-0", "Running"}, {"b", ""}}),
            "POD       STATE\n"
            "agent-0   Running\n"
            "b         -\n");
}

TEST(TableTest, TerminalsObeyNothingThatAnAgentWrote) {
  EXPECT_EQ(render_table({"A"}, {{"x\x1b[2J\ny"}}), "A\nx?[2J?y\n");
}

TEST(TableTest, AgesAreShort) {
  const auto age = [](int64_t s) { return short_age(std::chrono::seconds(s)); };
  EXPECT_EQ(age(-5), "0s");
  EXPECT_EQ(age(119), "119s");
  EXPECT_EQ(age(120), "2m");
  EXPECT_EQ(age(7'199), "119m");
  EXPECT_EQ(age(7'200), "2h");
  EXPECT_EQ(age(172'800), "2d");
}

}  // namespace
}  // namespace remora::k8s
