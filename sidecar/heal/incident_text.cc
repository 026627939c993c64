#include "sidecar/heal/incident_text.h"

#include <algorithm>
#include <ctime>
#include <iterator>

#include <fmt/format.h>

namespace remora {
namespace {

constexpr size_t kind_width = 10;

// One line of text with control characters as \xNN. U+0080 to U+009F are some too; to a terminal
// U+009B is what begins its commands.
std::string shown(std::string_view text) {
  std::string out;
  uint8_t before = 0;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    const bool c1 = before == 0xc2 && byte >= 0x80 && byte < 0xa0;
    if (c1) out.pop_back();
    if (byte < 0x20 || byte == 0x7f || c1) {
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", byte);
    } else {
      out += c;
    }
    before = byte;
  }
  return out;
}

tm utc_of(int64_t unix_ns) {
  const time_t seconds = unix_ns / 1'000'000'000;
  tm utc{};
  gmtime_r(&seconds, &utc);
  return utc;
}

std::string date_and_time(int64_t unix_ns) {
  if (unix_ns == 0) return "-";
  const tm utc = utc_of(unix_ns);
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02}", utc.tm_year + 1900, utc.tm_mon + 1,
                     utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

std::string clock_time(int64_t unix_ns) {
  const tm utc = utc_of(unix_ns);
  return fmt::format("{:02}:{:02}:{:02}.{:03}", utc.tm_hour, utc.tm_min, utc.tm_sec,
                     unix_ns / 1'000'000 % 1000);
}

std::string seconds_text(std::optional<double> seconds) {
  return seconds ? fmt::format("{:.3f} s", *seconds) : "-";
}

std::string status_text(const Incident& incident) {
  if (incident.status == IncidentStatus::kOpen) return "open";
  return std::string(closed_reason_name(incident.closed_reason));
}

struct Moment {
  int64_t at_unix_ns = 0;
  std::string what;
};

std::vector<Moment> moments_of(const Incident& incident) {
  std::vector<Moment> moments;
  const auto add = [&](int64_t at, std::string what) {
    if (at != 0) moments.push_back({at, std::move(what)});
  };
  add(incident.began_at_unix_ns, "began: the earliest sign");
  add(incident.detected_at_unix_ns, fmt::format("detected: {}", shown(incident.summary)));
  for (const IncidentStep& step : incident.steps) {
    add(step.intent_at_unix_ns, fmt::format("decided: {}", shown(step.reason)));
    add(step.acted_at_unix_ns, "agent started");
    if (!step.outcome.empty()) add(step.done_at_unix_ns, shown(step.outcome));
  }
  add(incident.closed_at_unix_ns, fmt::format("closed: {}", status_text(incident)));
  std::stable_sort(moments.begin(), moments.end(),
                   [](const Moment& a, const Moment& b) { return a.at_unix_ns < b.at_unix_ns; });
  return moments;
}

void add_log_tail(std::string& out, std::string_view tail) {
  out += "\nThe agent's last output\n";
  while (!tail.empty()) {
    const size_t end = std::min(tail.find('\n'), tail.size());
    fmt::format_to(std::back_inserter(out), "  | {}\n", shown(tail.substr(0, end)));
    tail.remove_prefix(std::min(end + 1, tail.size()));
  }
}

}  // namespace

std::string incident_timeline(const Incident& incident) {
  std::string out;
  const auto to = std::back_inserter(out);
  fmt::format_to(to, "{}\n", incident.id);
  fmt::format_to(to, "{}: {}\n", fault_kind_name(incident.fault), shown(incident.summary));
  fmt::format_to(to, "{}, agent generation {}\n", status_text(incident), incident.generation);

  fmt::format_to(to, "\nTimeline ({} UTC)\n", date_and_time(incident.began_at_unix_ns));
  const std::vector<Moment> moments = moments_of(incident);
  for (const Moment& moment : moments) {
    const double since = static_cast<double>(moment.at_unix_ns - moments.front().at_unix_ns) / 1e9;
    fmt::format_to(to, "  {}  {:>10}  {}\n", clock_time(moment.at_unix_ns),
                   fmt::format("+{:.3f} s", since), moment.what);
  }
  fmt::format_to(to, "\ndetect {}, decide {}, act {}, ready {}; in all {}\n",
                 seconds_text(incident.detect_s()), seconds_text(incident.decide_s()),
                 seconds_text(incident.act_s()), seconds_text(incident.ready_s()),
                 seconds_text(incident.mttr_s()));

  if (!incident.evidence.empty()) out += "\nEvidence\n";
  for (const EvidenceItem& item : incident.evidence) {
    fmt::format_to(to, "  {:<{}} {}\n", shown(item.kind), kind_width, shown(item.text));
  }
  if (!incident.requests_in_flight.empty()) {
    fmt::format_to(to, "\nRequests in flight ({})\n", incident.requests_in_flight.size());
  }
  for (const std::string& request : incident.requests_in_flight) {
    fmt::format_to(to, "  {}\n", shown(request));
  }
  if (!incident.log_tail.empty()) add_log_tail(out, incident.log_tail);
  return out;
}

std::string incident_table(std::span<const Incident> incidents) {
  size_t id_width = 2;
  for (const Incident& incident : incidents) id_width = std::max(id_width, incident.id.size());
  std::string out =
      fmt::format("{:<{}}  {:<19}  {:<19}  {:<10}  {:>5}  {:>11}  {}\n", "ID", id_width,
                  "BEGAN (UTC)", "FAULT", "STATUS", "STEPS", "HEALED IN", "SUMMARY");
  for (const Incident& incident : incidents) {
    fmt::format_to(std::back_inserter(out), "{:<{}}  {:<19}  {:<19}  {:<10}  {:>5}  {:>11}  {}\n",
                   incident.id, id_width, date_and_time(incident.began_at_unix_ns),
                   fault_kind_name(incident.fault), status_text(incident), incident.steps.size(),
                   seconds_text(incident.mttr_s()), shown(incident.summary));
  }
  return out;
}

}  // namespace remora
