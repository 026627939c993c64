#include "sidecar/base/buffer.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>

#include <gtest/gtest.h>

namespace remora {
namespace {

TEST(BufferTest, GivesBackInOrderWhatCameIn) {
  Buffer buffer;
  EXPECT_TRUE(buffer.empty());
  buffer.append(std::string_view("ab"));
  buffer.append(as_bytes("cd"));
  buffer.append('e');
  EXPECT_EQ(buffer.view(), "abcde");
  buffer.consume(2);
  EXPECT_EQ(buffer.view(), "cde");
  EXPECT_EQ(buffer.size(), 3u);
  buffer.consume(3);
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.view(), "");
}

TEST(BufferTest, AppendWithTakesOnlyWhatWasWritten) {
  Buffer buffer;
  buffer.append(std::string_view("x"));
  buffer.append_with(100, [](char* to) {
    std::copy_n("yz", 2, to);
    return size_t{2};
  });
  EXPECT_EQ(buffer.view(), "xyz");
  buffer.append_with(10, [](char*) { return size_t{0}; });
  EXPECT_EQ(buffer.view(), "xyz");
}

TEST(BufferTest, ConsumingNothingChangesNothing) {
  Buffer buffer;
  buffer.consume(0);
  EXPECT_TRUE(buffer.empty());
  buffer.append('a');
  buffer.consume(0);
  EXPECT_EQ(buffer.view(), "a");
}

TEST(BufferTest, ClearForgetsWhatWasConsumedToo) {
  Buffer buffer;
  buffer.append(std::string_view("abc"));
  buffer.consume(1);
  buffer.clear();
  EXPECT_TRUE(buffer.empty());
  buffer.append(std::string_view("d"));
  EXPECT_EQ(buffer.view(), "d");
}

// A connection that never quite drains must not grow for ever.
TEST(BufferTest, ADeadFrontIsWonBack) {
  Buffer buffer;
  const std::string piece(1000, 'p');
  buffer.append(piece);
  const auto pass_on = [&] {
    buffer.append(piece);
    buffer.consume(piece.size());
    return reinterpret_cast<uintptr_t>(buffer.view().data());
  };
  // Its storage finds its size.
  for (int i = 0; i < 100; ++i) pass_on();
  uintptr_t lowest = pass_on();
  uintptr_t highest = lowest;
  for (int i = 0; i < 10'000; ++i) {
    const uintptr_t at = pass_on();
    lowest = std::min(lowest, at);
    highest = std::max(highest, at);
  }
  EXPECT_EQ(buffer.view(), piece);
  EXPECT_LT(highest - lowest, 20'000u);
}

TEST(BufferTest, AnyMixOfCallsIsAQueue) {
  std::mt19937_64 random(11);
  Buffer buffer;
  std::string model;
  for (int i = 0; i < 5000; ++i) {
    if (random() % 2 == 0) {
      const std::string piece(random() % 3000, static_cast<char>('a' + random() % 26));
      buffer.append(piece);
      model += piece;
    } else {
      const size_t n = random() % (model.size() + 1);
      buffer.consume(n);
      model.erase(0, n);
    }
    ASSERT_EQ(buffer.view(), model) << "after call " << i;
  }
}

TEST(BufferTest, BytesAndTextAreTheSameMemory) {
  const std::string text = "a\xff";
  EXPECT_EQ(as_bytes(text).size(), 2u);
  EXPECT_EQ(as_bytes(text)[1], 0xff);
  EXPECT_EQ(as_text(as_bytes(text)).data(), text.data());
}

}  // namespace
}  // namespace remora
