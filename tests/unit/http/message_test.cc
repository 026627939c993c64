#include "sidecar/http/message.h"

#include <gtest/gtest.h>

#include "sidecar/http/fields.h"
#include "tests/unit/http/recording_events.h"

namespace remora::http {
namespace {

TEST(HeaderMap, FindsCountsRemovesAndSetsWithoutCase) {
  HeaderMap headers;
  headers.add("A", "1");
  headers.add("b", "2");
  headers.add("a", "3");
  EXPECT_EQ(headers.find("a"), "1");
  EXPECT_EQ(headers.count("A"), 2U);
  headers.set("a", "4");
  EXPECT_EQ(describe(headers), " [A: 4] [b: 2]");
  headers.set("c", "5");
  headers.remove("B");
  EXPECT_EQ(describe(headers), " [A: 4] [c: 5]");
  EXPECT_FALSE(headers.contains("b"));
}

TEST(HeaderMap, PooledStorageComesBackEmptyAndCopiesAreTheirOwn) {
  {
    HeaderMap headers;
    headers.add("a", "1");
  }
  HeaderMap fresh;
  EXPECT_TRUE(fresh.empty());
  fresh.add("b", "2");
  HeaderMap copy = fresh;
  copy.add("c", "3");
  HeaderMap moved = std::move(fresh);
  EXPECT_EQ(describe(moved), " [b: 2]");
  moved = std::move(copy);
  EXPECT_EQ(describe(moved), " [b: 2] [c: 3]");
}

TEST(Fields, ListMembersWithoutWhiteSpaceAndEmptyOnes) {
  EXPECT_TRUE(list_contains(" a ,, b;q=1\t, C", "c"));
  EXPECT_TRUE(list_contains(" a ,, b;q=1\t, C", "b"));
  EXPECT_FALSE(list_contains("close-not", "close"));
}

TEST(Fields, ContentLengthIsDigitsOnly) {
  EXPECT_EQ(parse_content_length("0"), 0U);
  EXPECT_EQ(parse_content_length("9223372036854775807"), 9223372036854775807U);
  for (const char* bad : {"", "+1", "-1", " 1", "1 ", "1,1", "0x1", "9223372036854775808"}) {
    EXPECT_FALSE(parse_content_length(bad)) << bad;
  }
}

TEST(Fields, EveryControlCharacterIsFoundWhereverItStands) {
  for (size_t size = 1; size < 20; ++size) {
    for (size_t at = 0; at < size; ++at) {
      for (const char c : {'\r', '\n', '\0', '\x1f'}) {
        std::string text(size, '\xff');
        text[at] = c;
        EXPECT_FALSE(is_writable_text(text)) << size << " " << at;
      }
      std::string tab(size, 'a');
      tab[at] = '\t';
      EXPECT_TRUE(is_writable_text(tab));
    }
  }
}

}  // namespace
}  // namespace remora::http
