#include "sidecar/base/arena.h"

#include <cstdint>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace remora {
namespace {

TEST(ArenaTest, ViewsOutliveTheirSourceAndAMoveOfTheOwner) {
  ArenaPtr arena = take_arena();
  std::string source = "content-type";
  const std::string_view copy = arena->copy(source);
  source.assign("overwritten!");
  const ArenaPtr moved = std::move(arena);
  EXPECT_EQ(copy, "content-type");
}

TEST(ArenaTest, AnEmptyTextCostsNothing) {
  const ArenaPtr arena = take_arena();
  const char* before = arena->allocate(0);
  EXPECT_TRUE(arena->copy("").empty());
  EXPECT_EQ(arena->allocate(0), before);
}

TEST(ArenaTest, PiecesAreAlignedAndApart) {
  const ArenaPtr arena = take_arena();
  std::vector<std::pair<std::string_view, std::string>> pieces;
  // Small ones across several chunks, with larger ones than a chunk in between.
  for (size_t i = 0; i < 500; ++i) {
    const size_t size = i % 100 == 99 ? Arena::chunk_bytes * 2 + i : i % 37 + 1;
    const std::string text(size, static_cast<char>('a' + i % 26));
    pieces.emplace_back(arena->copy(text), text);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(pieces.back().first.data()) % 8, 0u);
  }
  for (const auto& [view, text] : pieces) EXPECT_EQ(view, text);
}

TEST(ArenaTest, ExactlyAChunkFits) {
  const ArenaPtr arena = take_arena();
  const std::string_view whole = arena->copy(std::string(Arena::chunk_bytes, 'x'));
  const std::string_view next = arena->copy("y");
  EXPECT_EQ(whole, std::string(Arena::chunk_bytes, 'x'));
  EXPECT_EQ(next, "y");
}

TEST(ArenaTest, ResetBeginsAgainAtTheFirstChunk) {
  const ArenaPtr arena = take_arena();
  const char* first = arena->allocate(8);
  arena->allocate(Arena::chunk_bytes);
  EXPECT_NE(arena->allocate(8), first + 8);
  arena->reset();
  EXPECT_EQ(arena->allocate(8), first);
}

TEST(ArenaTest, AReturnedArenaIsTakenAgainAndEmpty) {
  ArenaPtr arena = take_arena();
  const Arena* address = arena.get();
  arena->allocate(100);
  arena.reset();
  const ArenaPtr again = take_arena();
  EXPECT_EQ(again.get(), address);
  const char* begin = again->allocate(8);
  again->reset();
  EXPECT_EQ(again->allocate(8), begin);
}

TEST(ArenaTest, ThePoolIsBounded) {
  std::vector<ArenaPtr> arenas;
  for (size_t i = 0; i < arena_pool_size_max + 10; ++i) arenas.push_back(take_arena());
  std::set<const Arena*> returned;
  for (const ArenaPtr& arena : arenas) returned.insert(arena.get());
  // The first ones fill the pool, the others are freed: only the first may come back.
  std::set<const Arena*> pooled;
  for (size_t i = 0; i < arena_pool_size_max; ++i) pooled.insert(arenas[i].get());
  arenas.clear();
  for (size_t i = 0; i < arena_pool_size_max; ++i) {
    arenas.push_back(take_arena());
    EXPECT_TRUE(pooled.contains(arenas.back().get()));
  }
}

TEST(ArenaTest, MayDieOnAnotherThread) {
  ArenaPtr arena = take_arena();
  const std::string_view text = arena->copy("from here");
  std::thread([&, owned = std::move(arena)]() mutable {
    EXPECT_EQ(text, "from here");
    owned.reset();
  }).join();
  EXPECT_EQ(arena, nullptr);
}

}  // namespace
}  // namespace remora
