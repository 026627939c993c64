#include "checkpoint/pack.h"

#include <zstd.h>

#include "checkpoint/chunker.h"
#include "tests/unit/checkpoint/checkpoint_fixture.h"

namespace remora::checkpoint {
namespace {

class PackTest : public testing::Test {
 protected:
  // Five chunks of different compressibility.
  PackTest() {
    auto file = real_file_system().create(path_, 0600);
    PackWriter pack(std::move(*file));
    Compressor compressor;
    for (int i = 0; i < 5; ++i) {
      plain_.push_back(i % 2 == 0 ? noise(3000, static_cast<uint64_t>(i))
                                  : std::string(3000, static_cast<char>('a' + i)));
      StoredForm form = StoredForm::kRaw;
      const std::string_view stored = compressor.compress(plain_.back(), form);
      EXPECT_EQ(form == StoredForm::kRaw, i % 2 == 0);
      EXPECT_TRUE(pack.add(sha256(plain_.back()), 3000, stored, form).has_value());
    }
    EXPECT_TRUE(pack.finish().has_value());
  }

  Result<PackIndex> read_index() {
    auto file = real_file_system().open(path_);
    return read_pack_index(**file);
  }

  // How many chunks can be had from the pack as it is now; each must be right.
  size_t readable() {
    auto index = read_index();
    if (!index) return 0;
    auto file = real_file_system().open(path_);
    size_t good = 0;
    for (const FrameInfo& frame : index->frames) {
      std::string stored(frame.stored_bytes, '\0');
      stored.resize(*(*file)->read_at(frame.offset, stored));
      std::string plain;
      if (!decode_chunk(frame, stored, plain)) continue;
      EXPECT_EQ(sha256(plain), frame.id);
      ++good;
    }
    return good;
  }

  ScratchDirectory scratch_;
  const std::string path_ = scratch_ / "pack";
  std::vector<std::string> plain_;
};

TEST_F(PackTest, GivesBackWhatWasAdded) {
  const auto index = read_index();
  ASSERT_TRUE(index.has_value());
  EXPECT_FALSE(index->salvaged);
  ASSERT_EQ(index->frames.size(), 5U);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(index->frames[i].id, sha256(plain_[i]));
  EXPECT_EQ(readable(), 5U);
}

TEST_F(PackTest, CutAtEveryTailByteItGivesEveryWholeChunk) {
  const std::string whole = read_file(path_);
  const auto frames = read_index()->frames;
  const uint64_t frames_end = frames.back().offset + frames.back().stored_bytes;
  for (size_t size = whole.size() - 1; size > frames[3].offset; --size) {
    std::filesystem::resize_file(path_, size);
    const size_t expected = size >= frames_end ? 5 : 4;
    const bool whole_third = size >= frames[3].offset + frames[3].stored_bytes;
    ASSERT_EQ(readable(), whole_third ? expected : 3) << "cut to " << size;
    ASSERT_TRUE(read_index()->salvaged);
  }
}

TEST_F(PackTest, WithItsLastFourKibibytesZeroedItGivesWhatIsBefore) {
  std::string bytes = read_file(path_);
  std::fill(bytes.end() - 4096, bytes.end(), '\0');
  write_file(path_, bytes);
  EXPECT_EQ(readable(), 2U);  // the third is the first that the zeros reach
}

TEST_F(PackTest, AFlippedBitCostsAtMostTheChunkItIsIn) {
  const std::string whole = read_file(path_);
  for (size_t i = 0; i < whole.size(); i += 7) {
    std::string bytes = whole;
    bytes[i] = static_cast<char>(bytes[i] ^ 0x10);
    write_file(path_, bytes);
    const size_t good = readable();
    if (i < 8) {
      EXPECT_EQ(good, 0U);
    } else {
      EXPECT_GE(good, 4U) << "byte " << i;
    }
  }
}

TEST(Chunk, ABombIsBoundByItsDeclaredLength) {
  const std::string plain(64 << 20, '\0');
  std::string bomb(ZSTD_compressBound(plain.size()), '\0');
  bomb.resize(ZSTD_compress(bomb.data(), bomb.size(), plain.data(), plain.size(), 1));
  FrameInfo frame{.id = sha256(plain),
                  .offset = 0,
                  .stored_bytes = static_cast<uint32_t>(bomb.size()),
                  .plain_bytes = chunk_bytes_max,
                  .form = StoredForm::kZstd};
  std::string out;
  const auto decoded = decode_chunk(frame, bomb, out);
  ASSERT_FALSE(decoded.has_value());
  EXPECT_EQ(decoded.error().code, ErrorCode::kCorrupt);
  EXPECT_LE(out.capacity(), 2 * chunk_bytes_max);
  frame.plain_bytes = 64 << 20;  // declares more than a chunk may have
  EXPECT_FALSE(decode_chunk(frame, bomb, out).has_value());
}

}  // namespace
}  // namespace remora::checkpoint
