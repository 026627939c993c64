// A strict reader of Prometheus' text exposition format 0.0.4, with the checks that promtool's
// "check metrics" makes: for tests of what we write.
#pragma once

#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace remora {

struct Sample {
  std::string name;
  std::map<std::string, std::string> labels;
  std::string value;
};

class Exposition {
 public:
  explicit Exposition(std::string_view text) { parse(text); }

  const std::vector<std::string>& errors() const { return errors_; }
  const std::vector<Sample>& samples() const { return samples_; }
  const std::map<std::string, std::string>& types() const { return types_; }

  // The value of the one sample with that name and exactly those labels; "" when there is none.
  std::string value(const std::string& name,
                    const std::map<std::string, std::string>& labels = {}) const {
    for (const Sample& sample : samples_) {
      if (sample.name == name && sample.labels == labels) return sample.value;
    }
    return "";
  }

 private:
  void fail(std::string_view line, const std::string& why) {
    errors_.push_back(why + ": " + std::string(line));
  }

  void parse(std::string_view text) {
    if (text.empty() || text.back() != '\n') errors_.emplace_back("no line feed at the end");
    while (!text.empty()) {
      const size_t end = text.find('\n');
      const std::string_view line = text.substr(0, end);
      if (line.starts_with("#")) {
        parse_comment(line);
      } else {
        parse_sample(line);
      }
      if (end == std::string_view::npos) break;
      text.remove_prefix(end + 1);
    }
    check_histograms();
  }

  void parse_comment(std::string_view line) {
    const bool help = line.starts_with("# HELP ");
    if (!help && !line.starts_with("# TYPE ")) return fail(line, "unknown comment");
    std::string_view rest = line.substr(7);
    const size_t blank = rest.find(' ');
    if (blank == std::string_view::npos) return fail(line, "no text");
    const std::string name(rest.substr(0, blank));
    const std::string body(rest.substr(blank + 1));
    if (help) {
      if (body.empty()) fail(line, "empty help");
      if (!helps_.insert(name).second) fail(line, "second HELP");
      current_ = name;
      return;
    }
    if (name != current_) fail(line, "TYPE without its HELP");
    if (!types_.emplace(name, body).second) fail(line, "second TYPE");
    if (body != "counter" && body != "gauge" && body != "histogram") fail(line, "unknown type");
    const bool total = name.ends_with("_total");
    if ((body == "counter") != total) fail(line, "counters, and only they, end in _total");
    for (const std::string_view bad :
         {"_milliseconds", "_ms", "_minutes", "_kilobytes", "_count", "_sum", "_bucket"}) {
      if (name.ends_with(bad)) fail(line, "no base unit or reserved suffix");
    }
  }

  void parse_sample(std::string_view line) {
    Sample sample;
    size_t i = line.find_first_of("{ ");
    if (i == std::string_view::npos || i == 0) return fail(line, "no name");
    sample.name = line.substr(0, i);
    if (line[i] == '{' && !parse_labels(line, i, sample)) return;
    if (i >= line.size() || line[i] != ' ') return fail(line, "no blank before the value");
    sample.value = line.substr(i + 1);
    char* end = nullptr;
    std::strtod(sample.value.c_str(), &end);
    if (sample.value.empty() || *end != '\0') return fail(line, "not a number");
    std::string family = sample.name;
    if (!types_.contains(family)) {
      for (const std::string_view suffix : {"_bucket", "_sum", "_count"}) {
        if (family.ends_with(suffix)) family.resize(family.size() - suffix.size());
        if (family != sample.name) break;
      }
    }
    if (family != current_) fail(line, "sample outside its family");
    if (!seen_.insert({sample.name, sample.labels}).second) fail(line, "sample twice");
    samples_.push_back(std::move(sample));
  }

  // At line[i] == '{'; leaves i behind '}'.
  bool parse_labels(std::string_view line, size_t& i, Sample& sample) {
    ++i;
    while (i < line.size() && line[i] != '}') {
      const size_t equals = line.find("=\"", i);
      if (equals == std::string_view::npos) return fail(line, "no label value"), false;
      const std::string name(line.substr(i, equals - i));
      std::string value;
      i = equals + 2;
      while (i < line.size() && line[i] != '"') {
        char c = line[i++];
        if (c == '\\') {
          c = i < line.size() ? line[i++] : '\0';
          if (c != 'n' && c != '\\' && c != '"') return fail(line, "unknown escape"), false;
          if (c == 'n') c = '\n';
        }
        value += c;
      }
      if (!sample.labels.emplace(name, value).second) return fail(line, "label twice"), false;
      ++i;
      if (i < line.size() && line[i] == ',') ++i;
    }
    if (i >= line.size()) return fail(line, "labels without end"), false;
    ++i;
    return true;
  }

  // Buckets rise, end with +Inf, and agree with _count.
  void check_histograms() {
    std::map<std::pair<std::string, std::map<std::string, std::string>>, std::vector<Sample>> all;
    for (const Sample& sample : samples_) {
      if (!sample.name.ends_with("_bucket")) continue;
      auto labels = sample.labels;
      labels.erase("le");
      all[{sample.name.substr(0, sample.name.size() - 7), labels}].push_back(sample);
    }
    for (const auto& [key, buckets] : all) {
      double last_bound = -1;
      double last_count = 0;
      for (const Sample& bucket : buckets) {
        const double bound = std::strtod(bucket.labels.at("le").c_str(), nullptr);
        const double count = std::strtod(bucket.value.c_str(), nullptr);
        if (bound <= last_bound || count < last_count) fail(key.first, "buckets do not rise");
        last_bound = bound;
        last_count = count;
      }
      if (buckets.back().labels.at("le") != "+Inf") fail(key.first, "no +Inf bucket");
      if (value(key.first + "_count", key.second) != buckets.back().value) {
        fail(key.first, "_count differs from the +Inf bucket");
      }
      if (value(key.first + "_sum", key.second).empty()) fail(key.first, "no _sum");
    }
  }

  std::vector<std::string> errors_;
  std::vector<Sample> samples_;
  std::map<std::string, std::string> types_;
  std::set<std::string> helps_;
  std::set<std::pair<std::string, std::map<std::string, std::string>>> seen_;
  std::string current_;
};

}  // namespace remora
