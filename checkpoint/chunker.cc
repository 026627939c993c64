#include "checkpoint/chunker.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace remora::checkpoint {
namespace {

// SplitMix64 (Steele et al., 2014) from a fixed seed: 256 well-mixed words without a table of
// literals that nobody can check.
constexpr uint64_t gear_seed = 0x52656d6f72613031;  // "Remora01"

constexpr std::array<uint64_t, 256> make_gear() {
  std::array<uint64_t, 256> table{};
  uint64_t state = gear_seed;
  for (uint64_t& word : table) {
    state += 0x9e3779b97f4a7c15;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    word = z ^ (z >> 31);
  }
  return table;
}
constexpr std::array<uint64_t, 256> gear = make_gear();

// The hash shifts left, so its top bits have seen the most bytes: the masks sit there. Before the
// average size a cut is four times rarer than 1 / avg, after it four times more likely, which pulls
// sizes towards the average.
constexpr int avg_bits = 18;
static_assert(chunk_bytes_avg == size_t{1} << avg_bits);
constexpr uint64_t top_bits(int n) { return ~uint64_t{0} << (64 - n); }
constexpr uint64_t mask_before_avg = top_bits(avg_bits + 2);
constexpr uint64_t mask_after_avg = top_bits(avg_bits - 2);

}  // namespace

size_t next_cut(std::string_view data) {
  const size_t end = std::min(data.size(), chunk_bytes_max);
  if (end <= chunk_bytes_min) return end;
  const size_t middle = std::min(end, chunk_bytes_avg);
  const auto* bytes = reinterpret_cast<const uint8_t*>(data.data());
  uint64_t hash = 0;
  // The 64 bytes before the minimum fill the hash's window.
  for (size_t i = chunk_bytes_min - 64; i < chunk_bytes_min; ++i) {
    hash = (hash << 1) + gear[bytes[i]];
  }
  size_t i = chunk_bytes_min;
  for (; i < middle; ++i) {
    hash = (hash << 1) + gear[bytes[i]];
    if ((hash & mask_before_avg) == 0) return i + 1;
  }
  for (; i < end; ++i) {
    hash = (hash << 1) + gear[bytes[i]];
    if ((hash & mask_after_avg) == 0) return i + 1;
  }
  return end;
}

StreamChunker::StreamChunker() : buffer_(stream_buffer_bytes, '\0') {}

void StreamChunker::reset() {
  begin_ = 0;
  end_ = 0;
}

std::span<char> StreamChunker::space() {
  if (begin_ == end_) {
    reset();
  } else if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  return {buffer_.data() + end_, buffer_.size() - end_};
}

std::string_view StreamChunker::next(bool at_end) {
  const std::string_view data = std::string_view(buffer_).substr(begin_, end_ - begin_);
  if (!at_end && data.size() < chunk_bytes_max) return {};
  const size_t cut = next_cut(data);
  begin_ += cut;
  return data.substr(0, cut);
}

}  // namespace remora::checkpoint
