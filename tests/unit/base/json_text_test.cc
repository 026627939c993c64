// Whatever bytes go in, what comes out is the inside of a JSON string.
#include "sidecar/base/json_text.h"

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace remora {
namespace {

std::string escaped(std::string_view text) {
  std::string out;
  append_json_escaped(out, text);
  return out;
}

struct Case {
  std::string name;
  std::string text;
  std::string json;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class JsonTextTest : public testing::TestWithParam<Case> {};

TEST_P(JsonTextTest, IsEscaped) { EXPECT_EQ(escaped(GetParam().text), GetParam().json); }

const std::vector<Case> cases = {
    {"Empty", "", ""},
    {"Plain", "GET /a?b=c", "GET /a?b=c"},
    {"QuoteAndBackslash", R"(say "a\b")", R"(say \"a\\b\")"},
    {"Newline", "a\nb", R"(a\nb)"},
    {"Controls", std::string("\0\x01\t\r\x1f\x7f", 6), R"(\u0000\u0001\u0009\u000d\u001f\u007f)"},
    {"TwoBytes", "\u00e9", "\u00e9"},
    {"ThreeBytes", "\u20ac", "\u20ac"},
    {"FourBytes", "\U0001F41F", "\U0001F41F"},
    {"LoneContinuation", "a\x80z", R"(a\ufffdz)"},
    {"LoneLead", "a\xc3z", R"(a\ufffdz)"},
    {"CutShort", "\xe2\x82", R"(\ufffd\ufffd)"},
    {"OverlongSlash", "\xc0\xaf", R"(\ufffd\ufffd)"},
    {"OverlongThree", "\xe0\x80\xaf", R"(\ufffd\ufffd\ufffd)"},
    {"OverlongFour", "\xf0\x8f\xbf\xbf", R"(\ufffd\ufffd\ufffd\ufffd)"},
    {"Surrogate", "\xed\xa0\x80", R"(\ufffd\ufffd\ufffd)"},
    {"LastBeforeSurrogates", "\xed\x9f\xbf", "\xed\x9f\xbf"},
    {"LastCodePoint", "\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
    {"BeyondUnicode", "\xf4\x90\x80\x80", R"(\ufffd\ufffd\ufffd\ufffd)"},
    {"NeverALead", "\xf5\xfe\xff", R"(\ufffd\ufffd\ufffd)"},
    {"ValidAfterInvalid", "\xff\u00e9\"", "\\ufffd\u00e9\\\""},
};

INSTANTIATE_TEST_SUITE_P(Table, JsonTextTest, testing::ValuesIn(cases),
                         [](const auto& test) { return test.param.name; });

TEST(JsonEscapeTest, AppendsToWhatIsThere) {
  std::string out = "before ";
  append_json_escaped(out, "\"");
  EXPECT_EQ(out, "before \\\"");
}

TEST(JsonEscapeTest, RandomBytesAreAlwaysReadByAStrictParser) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes(random() % 40, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    const std::string document = "\"" + escaped(bytes) + "\"";
    ASSERT_TRUE(nlohmann::json::accept(document)) << document;
  }
}

TEST(JsonEscapeTest, ValidUtf8ComesBackAsItWas) {
  const std::string text = "\x01 \"\\ \u00e9 \u20ac \U0001F41F \n";
  EXPECT_EQ(nlohmann::json::parse("\"" + escaped(text) + "\"").get<std::string>(), text);
}

}  // namespace
}  // namespace remora
