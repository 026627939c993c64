// Durations, sizes, numbers: what is read, what is refused, and what is written back.
#include "config/scalar.h"

#include <limits>
#include <string>

#include <gtest/gtest.h>

namespace remora::config {
// GoogleTest prints and compares through these.
inline bool operator==(const Complaint& a, const Complaint& b) {
  return a.message == b.message && a.mend == b.mend;
}
namespace {

using namespace std::chrono_literals;

TEST(DurationTest, ReadsUnitsLargestFirst) {
  EXPECT_EQ(parse_duration("30s"), Parsed<Duration>(30s));
  EXPECT_EQ(parse_duration("100ms"), Parsed<Duration>(100ms));
  EXPECT_EQ(parse_duration("5m"), Parsed<Duration>(5min));
  EXPECT_EQ(parse_duration("1h30m"), Parsed<Duration>(90min));
  EXPECT_EQ(parse_duration("1h1m1s1ms"), Parsed<Duration>(3'661'001ms));
  EXPECT_EQ(parse_duration("1.5s"), Parsed<Duration>(1500ms));
  EXPECT_EQ(parse_duration("0.25h"), Parsed<Duration>(15min));
  EXPECT_EQ(parse_duration("0s"), Parsed<Duration>(0s));
}

TEST(DurationTest, RefusesWhatIsNoDuration) {
  for (const std::string text :
       {"", "s", "1", "0", "1.5", "30 s", "30sec", "1m1h", "1s1s", "-1s", "+1s", ".5s", "1.s",
        "1..5s", "1e3s", "99999999999999999999s", "9223372036854775807h", "1d", "0.0001s"}) {
    EXPECT_FALSE(parse_duration(text).has_value()) << text;
  }
}

TEST(DurationTest, BareNumberIsMendedWithSeconds) {
  const auto parsed = parse_duration("30");
  ASSERT_FALSE(parsed.has_value());
  EXPECT_NE(parsed.error().mend.find("30s"), std::string::npos);
}

TEST(DurationTest, WritesTheShortestFormThatReadsBack) {
  EXPECT_EQ(format_duration(0s), "0s");
  EXPECT_EQ(format_duration(90s), "1m30s");
  EXPECT_EQ(format_duration(1h), "1h");
  EXPECT_EQ(format_duration(1500ms), "1s500ms");
  for (const Duration d : {Duration(1ms), Duration(999ms), Duration(61s), Duration(25h + 3ms)}) {
    EXPECT_EQ(parse_duration(format_duration(d)), Parsed<Duration>(d));
  }
}

TEST(BytesTest, ReadsPowersOf1024) {
  EXPECT_EQ(parse_bytes("0"), Parsed<int64_t>(0));
  EXPECT_EQ(parse_bytes("1048576"), Parsed<int64_t>(1048576));
  EXPECT_EQ(parse_bytes("64KiB"), Parsed<int64_t>(65536));
  EXPECT_EQ(parse_bytes("2 MiB"), Parsed<int64_t>(2 << 20));
  EXPECT_EQ(parse_bytes("1GiB"), Parsed<int64_t>(1 << 30));
  EXPECT_EQ(parse_bytes("1TiB"), Parsed<int64_t>(int64_t{1} << 40));
}

TEST(BytesTest, RefusesOtherUnitsFractionsAndOverflow) {
  for (const std::string text : {"", "KiB", "64KB", "64K", "64Ki", "64kib", "-1", "1.5KiB",
                                 "9223372036854775807TiB", "99999999999999999999", "64KiB "}) {
    const auto parsed = parse_bytes(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_NE(parsed.error().mend.find("KiB"), std::string::npos) << text;
  }
}

TEST(BytesTest, WritesTheLargestWholeUnit) {
  EXPECT_EQ(format_bytes(0), "0");
  EXPECT_EQ(format_bytes(1000), "1000");
  EXPECT_EQ(format_bytes(65536), "64KiB");
  EXPECT_EQ(format_bytes(int64_t{3} << 30), "3GiB");
}

TEST(IntegerTest, DigitsOnly) {
  EXPECT_EQ(parse_integer("8080"), Parsed<int64_t>(8080));
  EXPECT_EQ(parse_integer("-5"), Parsed<int64_t>(-5));
  for (const std::string text :
       {"", "+5", "8_080", "0x10", "1e3", "5.0", " 5", "5 ", "abc", "99999999999999999999"}) {
    EXPECT_FALSE(parse_integer(text).has_value()) << text;
  }
}

TEST(BoolTest, TrueOrFalse) {
  EXPECT_EQ(parse_bool("true"), Parsed<bool>(true));
  EXPECT_EQ(parse_bool("false"), Parsed<bool>(false));
  for (const std::string text : {"True", "yes", "on", "1", ""}) {
    EXPECT_FALSE(parse_bool(text).has_value()) << text;
  }
}

TEST(EditDistanceTest, CountsEditsAndSwaps) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("appPort", "appPort"), 0u);
  EXPECT_EQ(edit_distance("appPrt", "appPort"), 1u);
  EXPECT_EQ(edit_distance("apPport", "appPort"), 1u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
}

TEST(QuoteTest, CutsAndCleans) {
  EXPECT_EQ(quote("a\nb\"c"), "\"a?b\\\"c\"");
  EXPECT_EQ(quote(std::string(100, 'x')), "\"" + std::string(60, 'x') + "…\"");
}

}  // namespace

}  // namespace remora::config
