// A latency histogram of fixed memory and bounded relative error, after the idea of HdrHistogram:
// each power of two is cut into 128 equal buckets, so a percentile is at most 1/128 too high and
// never too low.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace remora::bench {

class LatencyHistogram {
 public:
  // About 18 minutes; longer values are counted as this one.
  static constexpr uint64_t value_ns_max = (uint64_t{1} << 40) - 1;

  void record(uint64_t value_ns) {
    const uint64_t value = std::min(value_ns, value_ns_max);
    ++counts_[index_of(value)];
    ++count_;
    max_ns_ = std::max(max_ns_, value);
  }

  uint64_t count() const { return count_; }
  uint64_t max_ns() const { return max_ns_; }

  // The smallest recordable bound that at least this share (0 to 1) of the values do not pass; 0
  // when nothing was recorded.
  uint64_t quantile_ns(double share) const {
    if (count_ == 0) return 0;
    const auto wanted = static_cast<uint64_t>(std::ceil(share * static_cast<double>(count_)));
    uint64_t seen = 0;
    for (size_t index = 0; index < counts_.size(); ++index) {
      seen += counts_[index];
      if (seen >= std::max<uint64_t>(wanted, 1)) return std::min(upper_bound(index), max_ns_);
    }
    return max_ns_;
  }

 private:
  static constexpr unsigned sub_bits = 7;
  static constexpr size_t sub_buckets = size_t{1} << sub_bits;
  static constexpr size_t octaves = 40 - sub_bits + 1;

  // Below 128 each value has its own bucket; above, the leading 8 bits choose it.
  static size_t index_of(uint64_t value) {
    if (value < sub_buckets) return static_cast<size_t>(value);
    const auto shift = static_cast<size_t>(std::bit_width(value)) - (sub_bits + 1);
    return shift * sub_buckets + static_cast<size_t>(value >> shift);
  }

  static uint64_t upper_bound(size_t index) {
    if (index < 2 * sub_buckets) return index;
    const size_t shift = index / sub_buckets - 1;
    const uint64_t leading = index - shift * sub_buckets;
    return ((leading + 1) << shift) - 1;
  }

  std::array<uint64_t, octaves * sub_buckets> counts_{};
  uint64_t count_ = 0;
  uint64_t max_ns_ = 0;
};

}  // namespace remora::bench
