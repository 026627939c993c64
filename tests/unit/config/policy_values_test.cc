#include "config/policy_values.h"

#include <gtest/gtest.h>

namespace remora::config {
namespace {

TEST(PolicyValuesTest, AreReadBackAndNothingElseIs) {
  const PolicyValues values{
      .policy = "p", .generation = 3, .annotations = {{"remora.dev/hang-window", "45s"}}};
  EXPECT_EQ(parse_policy_values(policy_values_text(values)), values);
  EXPECT_EQ(parse_policy_values(policy_values_text({})), PolicyValues{});
  for (const char* text : {"", "{}", "[]", R"({"policy":"p","generation":1})",
                           R"({"policy":"p","generation":"1","annotations":{}})",
                           R"({"policy":1,"generation":1,"annotations":{}})",
                           R"({"policy":"p","generation":1,"annotations":{"a":1}})"}) {
    EXPECT_FALSE(parse_policy_values(text)) << text;
  }
}

}  // namespace
}  // namespace remora::config
