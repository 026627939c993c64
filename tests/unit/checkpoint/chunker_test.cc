#include "checkpoint/chunker.h"

#include <algorithm>
#include <set>

#include "checkpoint/hash.h"
#include "tests/unit/checkpoint/checkpoint_fixture.h"

namespace remora::checkpoint {
namespace {

std::vector<std::string> cut(std::string_view data) {
  std::vector<std::string> chunks;
  while (!data.empty()) {
    const size_t n = next_cut(data);
    chunks.emplace_back(data.substr(0, n));
    data.remove_prefix(n);
  }
  return chunks;
}

TEST(Chunker, KeepsSizesWithinTheirBounds) {
  const auto chunks = cut(noise(20 << 20));
  size_t sum = 0;
  for (size_t i = 0; i < chunks.size(); ++i) {
    sum += chunks[i].size();
    EXPECT_LE(chunks[i].size(), chunk_bytes_max);
    EXPECT_TRUE(i + 1 == chunks.size() || chunks[i].size() >= chunk_bytes_min) << i;
  }
  EXPECT_EQ(sum, size_t{20} << 20);
  const size_t average = sum / chunks.size();
  EXPECT_GT(average, chunk_bytes_avg / 2);
  EXPECT_LT(average, chunk_bytes_avg * 2);
}

TEST(Chunker, AnInsertionAtTheFrontChangesFewChunks) {
  const std::string data = noise(20 << 20);
  std::set<std::string> before;
  for (const std::string& chunk : cut(data)) before.insert(sha256(chunk).hex());
  size_t fresh = 0;
  const auto after = cut("inserted at the front" + data);
  for (const std::string& chunk : after) fresh += before.contains(sha256(chunk).hex()) ? 0 : 1;
  EXPECT_LE(fresh, 4U) << "of " << after.size();
}

TEST(Chunker, CutsDependOnBytesAloneAndNeverChange) {
  // Part of the format: another cut would store everything again after an upgrade.
  const auto chunks = cut(noise(2 << 20));
  std::string all;
  for (const std::string& chunk : chunks) all += std::to_string(chunk.size()) + " ";
  EXPECT_EQ(all, "294922 284097 374438 314877 156570 288492 124630 259126 ");
}

TEST(Chunker, StreamsCutLikeWholeBuffers) {
  const std::string data = noise(9 << 20) + std::string(3 << 20, '\0') + noise(12345, 7);
  const auto whole = cut(data);
  for (const size_t piece : {size_t{1000}, size_t{65536}, size_t{4} << 20}) {
    StreamChunker stream;
    std::vector<std::string> chunks;
    size_t at = 0;
    while (true) {
      const auto space = stream.space();
      ASSERT_FALSE(space.empty());
      const size_t n = std::min({piece, space.size(), data.size() - at});
      std::copy_n(data.data() + at, n, space.data());
      stream.added(n);
      at += n;
      for (auto chunk = stream.next(at == data.size()); !chunk.empty();
           chunk = stream.next(at == data.size())) {
        chunks.emplace_back(chunk);
      }
      if (at == data.size()) break;
    }
    EXPECT_EQ(chunks, whole);
  }
}

TEST(Chunker, HandlesTheSmallestInputs) {
  EXPECT_EQ(next_cut(""), 0U);
  EXPECT_EQ(next_cut("x"), 1U);
  EXPECT_EQ(next_cut(noise(chunk_bytes_min)), chunk_bytes_min);
}

}  // namespace
}  // namespace remora::checkpoint
