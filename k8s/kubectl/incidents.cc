#include "k8s/kubectl/incidents.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "k8s/healing/facts.h"
#include "k8s/healing/records.h"
#include "k8s/healing/recovery.h"
#include "k8s/kubectl/table.h"

namespace remora::k8s {
namespace {

using v1alpha1::IncidentStep;

std::string seconds(Duration time) {
  constexpr int64_t tenth_ms = 100;
  const int64_t tenths = (to_ms(time) + tenth_ms / 2) / tenth_ms;
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " s";
}

std::string metadata_text(const Json& object, std::string_view key) {
  const Json* metadata = find_object(object, "metadata");
  return metadata == nullptr ? std::string() : text_of(*metadata, key);
}

std::string steps_text(const v1alpha1::IncidentStatus& status) {
  std::string out;
  for (const IncidentStep& step : status.steps()) {
    out.append(out.empty() ? "" : ", ").append(step.name()).append(" ").append(step.state());
  }
  return out;
}

Row row_of(const Json& object, const IncidentRecord& incident, WallTime now) {
  const auto detected = parse_time(incident.spec.detected_at());
  const auto split = recovery_split(incident.spec, incident.status);
  return {metadata_text(object, "name"),
          incident.spec.pod().name(),
          incident.spec.fault(),
          incident.status.phase().empty() ? "Open" : incident.status.phase(),
          steps_text(incident.status),
          split ? seconds(split->total()) : "",
          detected ? short_age(now - *detected) : ""};
}

// "+12 s", from when the fault began.
std::string offset(const std::string& time, std::optional<WallTime> from) {
  const auto at = parse_time(time);
  if (!at || !from) return "?";
  const int64_t s = to_ms(*at - *from) / 1000;
  return (s < 0 ? "-" : "+") + std::to_string(s < 0 ? -s : s) + " s";
}

void add_line(std::string& out, const std::string& name, const std::string& value) {
  if (value.empty()) return;
  constexpr size_t names_width = 12;
  out += name;
  out.append(names_width - std::min(names_width - 1, name.size()), ' ');
  out.append(printable(value)).append("\n");
}

void add_steps(std::string& out, const IncidentRecord& incident, std::optional<WallTime> began) {
  out += "steps\n";
  std::vector<Row> rows;
  rows.push_back({"  +0 s", "fault", "", incident.spec.summary()});
  rows.push_back({"  " + offset(incident.spec.detected_at(), began), "detected", "", ""});
  for (const IncidentStep& step : incident.status.steps()) {
    std::string state = step.state();
    if (!step.ended_at().empty()) state += " at " + offset(step.ended_at(), began);
    rows.push_back({"  " + offset(step.started_at(), began), step.name(), state, step.message()});
  }
  if (!incident.status.ended_at().empty()) {
    rows.push_back(
        {"  " + offset(incident.status.ended_at(), began), "over", incident.status.phase(), ""});
  }
  out += render_table({"  AFTER", "WHAT", "OUTCOME", "WORDS"}, rows);
}

void add_sidecar(std::string& out, const v1alpha1::SidecarHealing& healing) {
  out += "in the pod, by its sidecar: " + printable(healing.fault()) + ", " +
         printable(healing.outcome()) + " (" + printable(healing.id()) + ")\n";
  if (!healing.summary().empty()) out += "  " + printable(healing.summary()) + "\n";
  for (const std::string& line : healing.evidence()) out += "  " + printable(line) + "\n";
  for (const v1alpha1::SidecarStep& step : healing.steps()) {
    out += "  " + printable(step.action()) + ": " + printable(step.reason()) +
           (step.outcome().empty() ? "" : ": " + printable(step.outcome())) + "\n";
  }
}

std::string timeline(const Json& object, const IncidentRecord& incident) {
  const v1alpha1::IncidentSpec& spec = incident.spec;
  const v1alpha1::IncidentStatus& status = incident.status;
  const auto began = parse_time(spec.began_at().empty() ? spec.detected_at() : spec.began_at());
  std::string out;
  add_line(out, "incident",
           metadata_text(object, "namespace") + "/" + metadata_text(object, "name"));
  add_line(out, "pod", spec.pod().name() + " (" + spec.pod().uid() + ")");
  add_line(out, "node", spec.pod().node());
  add_line(out, "owner", spec.pod().owner());
  add_line(out, "container", spec.container());
  add_line(out, "fault", spec.fault());
  add_line(out, "policy", spec.policy().empty() ? "none: nothing is done" : spec.policy());
  add_line(out, "began", spec.began_at());
  add_line(out, "phase", status.phase().empty() ? "Open" : status.phase());
  add_line(out, "hold", status.hold());
  if (const auto split = recovery_split(spec, status)) {
    add_line(out, "MTTR",
             seconds(split->total()) + ": detect " + seconds(split->detect) + ", decide " +
                 seconds(split->decide) + ", act " + seconds(split->act) + ", ready " +
                 seconds(split->ready));
  }
  if (status.evidence_size() > 0) out += "evidence\n";
  for (const std::string& line : status.evidence()) out += "  " + printable(line) + "\n";
  add_steps(out, incident, began);
  for (const v1alpha1::SidecarHealing& healing : status.sidecar()) add_sidecar(out, healing);
  return out;
}

std::string as_json(const Json& value) {
  return value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string render_incidents(const std::vector<Json>& incidents, Form form, bool all_namespaces,
                             WallTime now) {
  if (form == Form::kJson) return as_json(Json(incidents));
  std::vector<std::pair<std::string, Row>> found;
  for (const Json& object : incidents) {
    const Result<IncidentRecord> incident = read_incident(object);
    if (!incident) continue;
    Row row = row_of(object, *incident, now);
    if (form == Form::kWide) {
      row.insert(row.end(), {incident->spec.pod().node(), incident->spec.policy(),
                             incident->status.hold(), incident->spec.summary()});
    }
    if (all_namespaces) row.insert(row.begin(), metadata_text(object, "namespace"));
    found.emplace_back(incident->spec.detected_at(), std::move(row));
  }
  if (found.empty()) return "no incidents\n";
  // RFC 3339 in UTC sorts as text.
  std::ranges::stable_sort(found, {}, [](const auto& one) { return one.first; });
  Row heads{"INCIDENT", "POD", "FAULT", "PHASE", "STEPS", "MTTR", "AGE"};
  if (form == Form::kWide) heads.insert(heads.end(), {"NODE", "POLICY", "HOLD", "SUMMARY"});
  if (all_namespaces) heads.insert(heads.begin(), "NAMESPACE");
  std::vector<Row> rows;
  for (auto& [time, row] : found) rows.push_back(std::move(row));
  return render_table(heads, rows);
}

std::string render_incident(const Json& incident, Form form) {
  if (form == Form::kJson) return as_json(incident);
  const Result<IncidentRecord> record = read_incident(incident);
  if (!record) return "this Incident can't be read: " + record.error().message + "\n";
  return timeline(incident, *record);
}

}  // namespace remora::k8s
