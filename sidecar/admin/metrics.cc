#include "sidecar/admin/metrics.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "sidecar/base/log.h"

namespace remora {
namespace {

[[noreturn]] void broken(std::string_view name, std::string_view why) {
  log_error("metric_broken", {{"metric", name}, {"why", why}});
  flush_log();
  std::abort();
}

bool is_name(std::string_view text, bool colon_allowed) {
  if (text.empty() || (text[0] >= '0' && text[0] <= '9')) return false;
  return std::ranges::all_of(text, [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (c == ':' && colon_allowed);
  });
}

// Label values escape backslash, quote and line feed; help texts all but the quote.
void append_escaped(std::string& out, std::string_view text, bool quotes) {
  for (const char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && quotes) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
}

// The shortest form that reads back as the same number.
void append_number(std::string& out, double value) {
  if (std::isnan(value)) {
    out += "NaN";
  } else if (std::isinf(value)) {
    out += value > 0 ? "+Inf" : "-Inf";
  } else {
    char text[32];
    const auto [end, error] = std::to_chars(text, text + sizeof text, value);
    out.append(text, end);
  }
}

// Whole units and a decimal fraction, without the rounding of a double.
void append_scaled(std::string& out, uint64_t value, uint64_t scale) {
  out += std::to_string(value / scale);
  uint64_t rest = value % scale;
  if (rest == 0) return;
  out += '.';
  while (rest != 0) {
    scale /= 10;
    out += static_cast<char>('0' + rest / scale);
    rest %= scale;
  }
}

void append_line_start(std::string& out, std::string_view name, std::string_view suffix,
                       std::string_view labels, std::string_view more_labels = {}) {
  out.append(name).append(suffix);
  if (!labels.empty() || !more_labels.empty()) {
    out.append("{").append(labels);
    if (!labels.empty() && !more_labels.empty()) out += ',';
    out.append(more_labels).append("}");
  }
  out += ' ';
}

}  // namespace

uint64_t Histogram::count() const {
  return std::accumulate(counts_.begin(), counts_.end(), uint64_t{0});
}

MetricRegistry::Series& MetricRegistry::add(std::string_view name, std::string_view help, Type type,
                                            Labels labels) {
  if (!is_name(name, true)) broken(name, "not a metric name");
  if (++series_count_ > series_max) broken(name, "too many series");
  std::string rendered;
  std::vector<std::string> label_names;
  for (const Label& label : labels) {
    if (!is_name(label.name, false) || label.name.starts_with("__") || label.name == "le") {
      broken(name, "not a label name");
    }
    if (!rendered.empty()) rendered += ',';
    rendered.append(label.name).append("=\"");
    append_escaped(rendered, label.value, true);
    rendered += '"';
    label_names.emplace_back(label.name);
  }
  auto family = std::ranges::find(families_, name, &Family::name);
  if (family == families_.end()) {
    families_.push_back({std::string(name), std::string(help), type, label_names, {}});
    family = std::prev(families_.end());
  }
  if (family->type != type || family->help != help || family->label_names != label_names) {
    broken(name, "made before with another type, help or set of labels");
  }
  if (std::ranges::find(family->series, rendered, &Series::labels) != family->series.end()) {
    broken(name, "this series was made before");
  }
  return family->series.emplace_back(Series{std::move(rendered), nullptr, nullptr, nullptr});
}

Counter& MetricRegistry::counter(std::string_view name, std::string_view help, Labels labels) {
  if (!name.ends_with("_total")) broken(name, "a counter's name ends in _total");
  Series& series = add(name, help, Type::kCounter, labels);
  Counter& counter = counters_.emplace_back();
  series.counter = &counter;
  return counter;
}

Gauge& MetricRegistry::gauge(std::string_view name, std::string_view help, Labels labels) {
  if (name.ends_with("_total")) broken(name, "only a counter's name ends in _total");
  Series& series = add(name, help, Type::kGauge, labels);
  Gauge& gauge = gauges_.emplace_back();
  series.gauge = &gauge;
  return gauge;
}

Gauge& MetricRegistry::float_counter(std::string_view name, std::string_view help, Labels labels) {
  if (!name.ends_with("_total")) broken(name, "a counter's name ends in _total");
  Series& series = add(name, help, Type::kCounter, labels);
  Gauge& gauge = gauges_.emplace_back();
  series.gauge = &gauge;
  return gauge;
}

Histogram& MetricRegistry::histogram(std::string_view name, std::string_view help, Labels labels) {
  if (!name.ends_with("_seconds")) broken(name, "a histogram's name ends in _seconds");
  Series& series = add(name, help, Type::kHistogram, labels);
  Histogram& histogram = histograms_.emplace_back();
  series.histogram = &histogram;
  return histogram;
}

void MetricRegistry::on_collect(std::move_only_function<void()> refresh) {
  collectors_.push_back(std::move(refresh));
}

void MetricRegistry::render_series(std::string& out, const Family& family, const Series& series) {
  if (series.counter != nullptr) {
    append_line_start(out, family.name, "", series.labels);
    out.append(std::to_string(series.counter->value())).append("\n");
  } else if (series.gauge != nullptr) {
    append_line_start(out, family.name, "", series.labels);
    append_number(out, series.gauge->value());
    out += '\n';
  } else {
    const Histogram& histogram = *series.histogram;
    uint64_t cumulative = 0;
    for (size_t i = 0; i <= Histogram::bucket_count; ++i) {
      cumulative += histogram.counts()[i];
      std::string le = "le=\"";
      if (i < Histogram::bucket_count) {
        append_scaled(le, static_cast<uint64_t>(Histogram::bucket_bounds_us[i]), 1'000'000);
      } else {
        le += "+Inf";
      }
      append_line_start(out, family.name, "_bucket", series.labels, le + "\"");
      out.append(std::to_string(cumulative)).append("\n");
    }
    append_line_start(out, family.name, "_sum", series.labels);
    append_scaled(out, histogram.sum_ns(), 1'000'000'000);
    out += '\n';
    append_line_start(out, family.name, "_count", series.labels);
    out.append(std::to_string(cumulative)).append("\n");
  }
}

std::string MetricRegistry::render() {
  for (auto& refresh : collectors_) refresh();
  static constexpr std::string_view type_names[] = {"counter", "gauge", "histogram"};
  std::string out;
  for (const Family& family : families_) {
    out.append("# HELP ").append(family.name).append(" ");
    append_escaped(out, family.help, false);
    out.append("\n# TYPE ").append(family.name).append(" ");
    out.append(type_names[static_cast<size_t>(family.type)]).append("\n");
    for (const Series& series : family.series) render_series(out, family, series);
  }
  return out;
}

}  // namespace remora
