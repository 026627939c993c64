#include "sidecar/admin/metrics.h"

#include <array>
#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sidecar/admin/remora_metrics.h"
#include "tests/unit/admin/exposition.h"

namespace remora {
namespace {

using testing::IsEmpty;
using namespace std::chrono_literals;

TEST(MetricsTest, RendersEachType) {
  MetricRegistry registry;
  registry.counter("a_total", "As.", {{"kind", "x"}}).add(3);
  registry.counter("a_total", "As.", {{"kind", "y"}});
  registry.gauge("b_bytes", "Bs.").set(1.5);
  EXPECT_EQ(registry.render(),
            "# HELP a_total As.\n# TYPE a_total counter\n"
            "a_total{kind=\"x\"} 3\na_total{kind=\"y\"} 0\n"
            "# HELP b_bytes Bs.\n# TYPE b_bytes gauge\nb_bytes 1.5\n");
}

TEST(MetricsTest, HistogramBucketsAreCumulativeAndExact) {
  MetricRegistry registry;
  Histogram& histogram = registry.histogram("d_seconds", "Ds.");
  histogram.observe(500us);        // on the bound: inside
  histogram.observe(500us + 1ns);  // just past it
  histogram.observe(2h);           // above all bounds
  histogram.observe(-5s);          // a clock that went back counts as zero
  const Exposition text(registry.render());
  EXPECT_THAT(text.errors(), IsEmpty());
  EXPECT_EQ(text.value("d_seconds_bucket", {{"le", "0.0005"}}), "2");
  EXPECT_EQ(text.value("d_seconds_bucket", {{"le", "0.001"}}), "3");
  EXPECT_EQ(text.value("d_seconds_bucket", {{"le", "600"}}), "3");
  EXPECT_EQ(text.value("d_seconds_bucket", {{"le", "+Inf"}}), "4");
  EXPECT_EQ(text.value("d_seconds_count"), "4");
  EXPECT_EQ(text.value("d_seconds_sum"), "7200.001000001");
}

TEST(MetricsTest, BucketBoundsRise) {
  EXPECT_TRUE(std::ranges::is_sorted(Histogram::bucket_bounds_us, std::less_equal{}) &&
              Histogram::bucket_bounds_us.front() < Histogram::bucket_bounds_us.back());
}

TEST(MetricsTest, EscapesLabelValuesAndHelp) {
  MetricRegistry registry;
  const std::string awkward = "a\"b\\c\nd ü";
  registry.gauge("g", "Help with \\ and\nline.", {{"v", awkward}}).set(1);
  const std::string text = registry.render();
  EXPECT_THAT(text, testing::HasSubstr("# HELP g Help with \\\\ and\\nline.\n"));
  const Exposition parsed(text);
  EXPECT_THAT(parsed.errors(), IsEmpty());
  EXPECT_EQ(parsed.value("g", {{"v", awkward}}), "1");
}

TEST(MetricsTest, RendersSpecialNumbers) {
  MetricRegistry registry;
  registry.gauge("a", "A.").set(std::numeric_limits<double>::infinity());
  registry.gauge("b", "B.").set(-std::numeric_limits<double>::infinity());
  registry.gauge("c", "C.").set(std::numeric_limits<double>::quiet_NaN());
  registry.gauge("d", "D.").set(1e21);
  const Exposition text(registry.render());
  EXPECT_THAT(text.errors(), IsEmpty());
  EXPECT_EQ(text.value("a"), "+Inf");
  EXPECT_EQ(text.value("b"), "-Inf");
  EXPECT_EQ(text.value("c"), "NaN");
  EXPECT_EQ(text.value("d"), "1e+21");
}

TEST(MetricsTest, CollectorsRunBeforeEachRender) {
  MetricRegistry registry;
  Counter& counter = registry.counter("polls_total", "Polls.");
  registry.on_collect([&counter] { counter.add(); });
  registry.render();
  EXPECT_EQ(Exposition(registry.render()).value("polls_total"), "2");
}

TEST(MetricsDeathTest, BrokenNamesAbort) {
  MetricRegistry registry;
  registry.gauge("same", "Help.", {{"a", "1"}});
  EXPECT_DEATH(registry.gauge("9lives", "Help."), "not a metric name");
  EXPECT_DEATH(registry.gauge("g", "Help.", {{"le", "1"}}), "not a label name");
  EXPECT_DEATH(registry.counter("requests", "Help."), "ends in _total");
  EXPECT_DEATH(registry.histogram("duration_ms", "Help."), "ends in _seconds");
  EXPECT_DEATH(registry.gauge("same", "Help.", {{"a", "1"}}), "made before");
  EXPECT_DEATH(registry.gauge("same", "Other.", {{"a", "2"}}), "another type, help");
  EXPECT_DEATH(registry.gauge("same", "Help.", {{"b", "2"}}), "set of labels");
}

class RemoraMetricsTest : public testing::Test {
 protected:
  static constexpr std::array<std::string_view, 2> kinds = {"crash", "hang"};
  MetricRegistry registry_;
  AgentMetrics metrics_{registry_, "main", kinds};
  AppMetrics app_{registry_, "1.2.3"};
  ListenerMetrics inbound_{registry_, "main", "inbound"};
};

TEST_F(RemoraMetricsTest, AllSeriesKeepPrometheusRules) {
  add_process_metrics(registry_);
  const Exposition text(registry_.render());
  EXPECT_THAT(text.errors(), IsEmpty());
  for (const auto& [name, type] : text.types()) {
    EXPECT_TRUE(name.starts_with("remora_") || name.starts_with("process_")) << name;
  }
  EXPECT_EQ(text.value("remora_build_info", {{"version", "1.2.3"}}), "1");
  // Series exist before anything has happened, so that rates begin at zero.
  EXPECT_EQ(text.value("remora_faults_total", {{"agent", "main"}, {"kind", "hang"}}), "0");
  EXPECT_EQ(text.value("remora_snapshots_total", {{"agent", "main"}, {"outcome", "failed"}}), "0");
}

TEST_F(RemoraMetricsTest, RequestsAreCountedByClass) {
  inbound_.on_request_finished(200, 3ms);
  inbound_.on_request_finished(204, 3ms);
  inbound_.on_request_finished(503, 3ms);
  inbound_.on_request_finished(0, 3ms);
  inbound_.on_request_finished(999, 3ms);
  const Exposition text(registry_.render());
  const auto count = [&](const char* code_class) {
    return text.value("remora_http_requests_total",
                      {{"agent", "main"}, {"listener", "inbound"}, {"code_class", code_class}});
  };
  EXPECT_EQ(count("2xx"), "2");
  EXPECT_EQ(count("5xx"), "1");
  EXPECT_EQ(count("none"), "2");
  EXPECT_EQ(text.value("remora_http_request_duration_seconds_count",
                       {{"agent", "main"}, {"listener", "inbound"}, {"code_class", "2xx"}}),
            "2");
}

TEST_F(RemoraMetricsTest, HealingIsSplitByPhase) {
  metrics_.count_fault("hang");
  metrics_.observe_healing({.detect = 2s, .decide = 1ms, .total = 5s});
  const Exposition text(registry_.render());
  EXPECT_EQ(text.value("remora_faults_total", {{"agent", "main"}, {"kind", "hang"}}), "1");
  const auto count = [&](const char* phase) {
    return text.value("remora_healing_duration_seconds_count",
                      {{"agent", "main"}, {"phase", phase}});
  };
  EXPECT_EQ(count("detect"), "1");
  EXPECT_EQ(count("act"), "0");
  EXPECT_EQ(
      text.value("remora_healing_duration_seconds_sum", {{"agent", "main"}, {"phase", "total"}}),
      "5");
}

TEST_F(RemoraMetricsTest, SnapshotsAreCountedByOutcome) {
  metrics_.count_snapshot(SnapshotOutcome::kUnchanged, 20ms, 2ms);
  const Exposition text(registry_.render());
  EXPECT_EQ(text.value("remora_snapshots_total", {{"agent", "main"}, {"outcome", "unchanged"}}),
            "1");
  EXPECT_EQ(text.value("remora_snapshot_agent_stopped_seconds_sum", {{"agent", "main"}}), "0.002");
}

TEST_F(RemoraMetricsTest, ProcessMetricsAreThisProcess) {
  add_process_metrics(registry_);
  const Exposition text(registry_.render());
  EXPECT_GT(std::stod(text.value("process_resident_memory_bytes")), 100'000);
  EXPECT_GT(std::stod(text.value("process_open_fds")), 2);
  EXPECT_GE(std::stod(text.value("process_max_fds")), std::stod(text.value("process_open_fds")));
  // After 2020, and not in the future by more than a day.
  EXPECT_GT(std::stod(text.value("process_start_time_seconds")), 1.577e9);
}

}  // namespace
}  // namespace remora
