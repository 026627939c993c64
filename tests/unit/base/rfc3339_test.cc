#include "sidecar/base/rfc3339.h"

#include <gtest/gtest.h>

namespace remora {
namespace {

TEST(Rfc3339, WritesSecondsAndMicrosecondsInUtc) {
  EXPECT_EQ(rfc3339(0), "1970-01-01T00:00:00Z");
  EXPECT_EQ(rfc3339(951'826'554), "2000-02-29T12:15:54Z");  // the leap day of a century
  EXPECT_EQ(rfc3339_micro(1'000'001), "1970-01-01T00:00:01.000001Z");
  EXPECT_EQ(rfc3339_micro(951'826'554'120'000), "2000-02-29T12:15:54.120000Z");
}

}  // namespace
}  // namespace remora
