#include "k8s/agents/report.h"

#include <algorithm>
#include <array>

#include "k8s/healing/facts.h"
#include "k8s/healing/sidecar_reports.h"

namespace remora::k8s {
namespace {

constexpr size_t id_bytes_max = 100;

bool is_id(const std::string& text) {
  constexpr std::string_view others = "._-";
  const auto fits = [&](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           others.find(c) != std::string_view::npos;
  };
  return !text.empty() && text.size() <= id_bytes_max && std::ranges::all_of(text, fits);
}

bool is_outcome(const std::string& text) {
  constexpr std::array<std::string_view, 5> known = {"open", "recovered", "gave_up", "superseded",
                                                     "stopped"};
  return std::ranges::find(known, text) != known.end();
}

// Empty where there is none, or none that a clock can hold.
std::string time_text(int64_t unix_ns) {
  if (unix_ns <= 0) return {};
  const std::string text = format_time(WallTime(Duration(unix_ns)));
  return parse_time(text) ? text : std::string();
}

int64_t between_ms(int64_t from_ns, int64_t to_ns) {
  return from_ns > 0 && to_ns > from_ns ? (to_ns - from_ns) / 1'000'000 : 0;
}

void add_steps(const link::v1::IncidentReport& report, v1alpha1::SidecarHealing& healing) {
  const int first = std::max(0, report.steps_size() - report_items_max);
  for (int i = first; i < report.steps_size(); ++i) {
    const link::v1::IncidentStep& told = report.steps(i);
    const std::string started = time_text(told.started_at_unix_ns());
    if (told.action().empty() || started.empty()) continue;
    v1alpha1::SidecarStep& step = *healing.add_steps();
    step.set_action(cut(told.action(), report_line_bytes_max));
    step.set_reason(cut(told.reason(), report_line_bytes_max));
    step.set_outcome(cut(told.outcome(), report_line_bytes_max));
    step.set_started_at(started);
    step.set_ended_at(time_text(told.ended_at_unix_ns()));
  }
}

std::unexpected<Error> invalid(std::string why) {
  return make_error(ErrorCode::kInvalidArgument, ErrorSource::kDownstream, std::move(why));
}

}  // namespace

std::string cut(const std::string& text, size_t bytes_max) {
  size_t end = std::min(text.size(), bytes_max);
  while (end > 0 && end < text.size() && (static_cast<uint8_t>(text[end]) & 0xc0) == 0x80) --end;
  std::string line = text.substr(0, end);
  std::ranges::replace_if(
      line, [](char c) { return static_cast<uint8_t>(c) < 0x20 || c == 0x7f; }, ' ');
  return line;
}

Result<SidecarReport> sidecar_report(const link::PodClaims& pod,
                                     const link::v1::IncidentReport& told) {
  if (!is_id(told.id())) return invalid("an incident's id is not one");
  if (!is_id(told.container())) return invalid("an incident's container has no name");
  if (!is_sidecar_fault(told.fault())) return invalid("the kind of fault is not known");
  if (!is_outcome(told.outcome())) return invalid("the outcome is not known");
  SidecarReport report;
  report.pod.set_name(pod.pod);
  report.pod.set_uid(pod.uid);
  report.pod.set_node(pod.node);
  report.container = told.container();
  report.detected_at = time_text(told.detected_at_unix_ns());
  v1alpha1::SidecarHealing& healing = report.healing;
  healing.set_id(told.id());
  healing.set_fault(told.fault());
  healing.set_summary(cut(told.summary(), report_line_bytes_max));
  healing.set_outcome(told.outcome());
  healing.set_began_at(time_text(told.began_at_unix_ns()));
  healing.set_ended_at(time_text(told.closed_at_unix_ns()));
  healing.set_detect_milliseconds(between_ms(told.began_at_unix_ns(), told.detected_at_unix_ns()));
  healing.set_decide_milliseconds(
      between_ms(told.detected_at_unix_ns(), told.decided_at_unix_ns()));
  healing.set_act_milliseconds(between_ms(told.decided_at_unix_ns(), told.acted_at_unix_ns()));
  healing.set_ready_milliseconds(between_ms(told.acted_at_unix_ns(), told.ready_at_unix_ns()));
  healing.set_recovery_milliseconds(between_ms(told.began_at_unix_ns(), told.ready_at_unix_ns()));
  add_steps(told, healing);
  for (const std::string& line : told.evidence()) {
    if (healing.evidence_size() == report_evidence_max) break;
    if (!line.empty()) healing.add_evidence(cut(line, report_line_bytes_max));
  }
  return report;
}

std::vector<v1alpha1::StoredSnapshot> stored_snapshots(const link::v1::SnapshotReport& report) {
  std::vector<v1alpha1::StoredSnapshot> all;
  const int first = std::max(0, report.snapshots_size() - report_items_max);
  for (int i = first; i < report.snapshots_size(); ++i) {
    const link::v1::Snapshot& told = report.snapshots(i);
    if (!is_id(told.id())) continue;
    v1alpha1::StoredSnapshot& one = all.emplace_back();
    one.set_id(told.id());
    one.set_taken_at(time_text(told.taken_at_unix_ns()));
    one.set_reason(cut(told.reason(), report_line_bytes_max));
    one.set_bytes(std::max<int64_t>(0, told.bytes()));
    one.set_files(std::max<int64_t>(0, told.files()));
    one.set_added_bytes(std::max<int64_t>(0, told.added_bytes()));
    one.set_intact(told.problem().empty());
    one.set_problem(cut(told.problem(), report_line_bytes_max));
  }
  return all;
}

}  // namespace remora::k8s
