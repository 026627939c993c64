// The histogram decides what the published latencies say, so its error bound is checked here.
#include "benchmarks/histogram.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace remora::bench {
namespace {

TEST(LatencyHistogram, EmptyReadsAsZero) {
  const LatencyHistogram histogram;
  EXPECT_EQ(histogram.quantile_ns(0.99), 0u);
  EXPECT_EQ(histogram.count(), 0u);
}

TEST(LatencyHistogram, SmallValuesAreExact) {
  LatencyHistogram histogram;
  for (uint64_t value = 1; value <= 100; ++value) histogram.record(value);
  EXPECT_EQ(histogram.quantile_ns(0.5), 50u);
  EXPECT_EQ(histogram.quantile_ns(0.99), 99u);
  EXPECT_EQ(histogram.quantile_ns(1.0), 100u);
}

TEST(LatencyHistogram, QuantilesStayWithinOnePartIn128) {
  std::mt19937_64 random(7);
  std::lognormal_distribution<double> latency_ns(12, 2);
  auto histogram = std::make_unique<LatencyHistogram>();
  std::vector<uint64_t> values;
  for (int i = 0; i < 200'000; ++i) {
    values.push_back(static_cast<uint64_t>(latency_ns(random)));
    histogram->record(values.back());
  }
  std::sort(values.begin(), values.end());
  for (const double share : {0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999}) {
    const auto rank = static_cast<size_t>(share * static_cast<double>(values.size()));
    const uint64_t exact = values[rank - 1];
    const uint64_t read = histogram->quantile_ns(share);
    EXPECT_GE(read, exact) << share;
    EXPECT_LE(read - exact, exact / 128 + 1) << share;
  }
  EXPECT_EQ(histogram->quantile_ns(1.0), values.back());
}

TEST(LatencyHistogram, BucketEdgesNeverReadLow) {
  for (unsigned bit = 0; bit < 40; ++bit) {
    for (const int64_t offset : {-1, 0, 1}) {
      const auto value = static_cast<uint64_t>((int64_t{1} << bit) + offset);
      auto histogram = std::make_unique<LatencyHistogram>();
      histogram->record(value);
      histogram->record(LatencyHistogram::value_ns_max);
      EXPECT_GE(histogram->quantile_ns(0.5), value);
      EXPECT_LE(histogram->quantile_ns(0.5), value + value / 128);
    }
  }
}

TEST(LatencyHistogram, ValuesPastTheRangeCountAsTheLargest) {
  LatencyHistogram histogram;
  histogram.record(UINT64_MAX);
  EXPECT_EQ(histogram.max_ns(), LatencyHistogram::value_ns_max);
  EXPECT_EQ(histogram.quantile_ns(0.5), LatencyHistogram::value_ns_max);
}

}  // namespace
}  // namespace remora::bench
