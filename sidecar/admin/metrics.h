// Counters, gauges and histograms, and their text form for Prometheus.
//
// Loop thread only; so recording is a plain addition, with no lock, no allocation and no lookup:
// whoever records holds a reference to its series. All series are made at start, which keeps their
// number fixed (series_max) and lets rates begin at zero.
//
// Invariants: names and labels follow Prometheus' data model and naming practice (base units, total
// at the end of counters); a name has one type, one help and one set of label names. Breaking them
// is a bug of ours and aborts.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/base/clock.h"

namespace remora {

inline constexpr size_t series_max = 1024;

class Counter {
 public:
  void add(uint64_t n = 1) { value_ += n; }
  // Mirrors a count that is kept elsewhere; must never go down.
  void set(uint64_t value) { value_ = value; }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0;
};

class Gauge {
 public:
  void set(double value) { value_ = value; }
  double value() const { return value_; }

 private:
  double value_ = 0;
};

// Of durations; buckets from half a millisecond to ten minutes, about 2.5 times apart.
class Histogram {
 public:
  static constexpr size_t bucket_count = 19;
  // Upper bounds, inclusive.
  static constexpr std::array<int64_t, bucket_count> bucket_bounds_us = {
      500,        1'000,      2'500,       5'000,       10'000,     25'000,    50'000,
      100'000,    250'000,    500'000,     1'000'000,   2'500'000,  5'000'000, 10'000'000,
      30'000'000, 60'000'000, 120'000'000, 300'000'000, 600'000'000};

  // Negative durations count as zero.
  void observe(Duration d) {
    const int64_t ns = d.count() > 0 ? d.count() : 0;
    size_t bucket = 0;
    // Most observations are short: the scan ends after a few steps.
    while (bucket < bucket_count && ns > bucket_bounds_us[bucket] * 1000) ++bucket;
    ++counts_[bucket];
    sum_ns_ += static_cast<uint64_t>(ns);
  }
  uint64_t count() const;
  uint64_t sum_ns() const { return sum_ns_; }
  // Not cumulative; the last one is above all bounds.
  const std::array<uint64_t, bucket_count + 1>& counts() const { return counts_; }

 private:
  std::array<uint64_t, bucket_count + 1> counts_{};
  uint64_t sum_ns_ = 0;
};

struct Label {
  std::string_view name;
  std::string_view value;
};
using Labels = std::initializer_list<Label>;

class MetricRegistry {
 public:
  MetricRegistry() = default;
  MetricRegistry(const MetricRegistry&) = delete;
  MetricRegistry& operator=(const MetricRegistry&) = delete;
  ~MetricRegistry() = default;

  // References stay valid as long as the registry. Calling again with the same name and other label
  // values adds a series. Counters end in _total, histograms in _seconds.
  Counter& counter(std::string_view name, std::string_view help, Labels labels = {});
  Gauge& gauge(std::string_view name, std::string_view help, Labels labels = {});
  Histogram& histogram(std::string_view name, std::string_view help, Labels labels = {});
  // For counts that are not whole, such as CPU seconds: a gauge that is announced as a counter.
  Gauge& float_counter(std::string_view name, std::string_view help, Labels labels = {});

  // Runs before each render: brings gauges and mirrored counters up to date.
  void on_collect(std::move_only_function<void()> refresh);

  // Text exposition format 0.0.4 (content_type below). Families in the order of their making.
  std::string render();
  static constexpr std::string_view content_type = "text/plain; version=0.0.4; charset=utf-8";

 private:
  enum class Type { kCounter, kGauge, kHistogram };
  struct Series {
    std::string labels;  // `kind="crash"`, rendered once; empty without labels
    const Counter* counter = nullptr;
    const Gauge* gauge = nullptr;
    const Histogram* histogram = nullptr;
  };
  struct Family {
    std::string name;
    std::string help;
    Type type;
    std::vector<std::string> label_names;
    std::vector<Series> series;
  };

  Series& add(std::string_view name, std::string_view help, Type type, Labels labels);
  static void render_series(std::string& out, const Family& family, const Series& series);

  std::deque<Counter> counters_;
  std::deque<Gauge> gauges_;
  std::deque<Histogram> histograms_;
  std::vector<Family> families_;
  size_t series_count_ = 0;
  std::vector<std::move_only_function<void()>> collectors_;
};

}  // namespace remora
