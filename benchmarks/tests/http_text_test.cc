// A wrong reading of a reply would count errors as successes, so the reader is tested too.
#include "benchmarks/http_text.h"

#include <gtest/gtest.h>

namespace remora::bench {
namespace {

constexpr std::string_view head =
    "HTTP/1.1 200 OK\r\nServer: x\r\nCONTENT-Length:  64 \r\nx-content-length: 5\r\n\r\n";

TEST(HttpText, HeadEndsAfterTheEmptyLine) {
  EXPECT_EQ(head_size(head), head.size());
  EXPECT_EQ(head_size(std::string(head) + "body"), head.size());
  EXPECT_EQ(head_size(head.substr(0, head.size() - 1)), 0u);
  EXPECT_EQ(head_size(""), 0u);
}

TEST(HttpText, FieldNamesIgnoreCaseAndMatchWhole) {
  EXPECT_EQ(content_length(head), 64u);
  EXPECT_EQ(field(head, "server:"), "x");
  EXPECT_EQ(content_length("HTTP/1.1 200 OK\r\nx-content-length: 5\r\n\r\n"), std::nullopt);
}

TEST(HttpText, DamagedNumbersAreRefused) {
  EXPECT_EQ(content_length("HTTP/1.1 200 OK\r\ncontent-length: 6x\r\n\r\n"), std::nullopt);
  EXPECT_EQ(content_length("HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n"), std::nullopt);
  EXPECT_EQ(to_number("99999999999999999999999"), std::nullopt);
}

TEST(HttpText, StatusIsZeroWithoutAStatusLine) {
  EXPECT_EQ(status_of(head), 200u);
  EXPECT_EQ(status_of("HTTP/1.1 5"), 0u);
  EXPECT_EQ(status_of("garbage garbage"), 0u);
}

}  // namespace
}  // namespace remora::bench
