#include "sidecar/app/link_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace remora {

std::string link_text(std::string_view text) {
  using Json = nlohmann::json;
  // The same mending as in the incident's own file.
  const std::string quoted = Json(text.substr(0, link_text_bytes_max))
                                 .dump(-1, ' ', false, Json::error_handler_t::replace);
  return Json::parse(quoted).get<std::string>();
}

link::v1::IncidentReport incident_report(std::string_view agent, const Incident& incident) {
  link::v1::IncidentReport report;
  report.set_container(std::string(agent));
  report.set_id(incident.id);
  report.set_fault(std::string(fault_kind_name(incident.fault)));
  report.set_summary(link_text(incident.summary));
  report.set_outcome(incident.status == IncidentStatus::kOpen
                         ? "open"
                         : std::string(closed_reason_name(incident.closed_reason)));
  report.set_began_at_unix_ns(incident.began_at_unix_ns);
  report.set_detected_at_unix_ns(incident.detected_at_unix_ns);
  report.set_decided_at_unix_ns(incident.decided_at_unix_ns);
  report.set_acted_at_unix_ns(incident.acted_at_unix_ns);
  report.set_ready_at_unix_ns(incident.ready_at_unix_ns);
  report.set_closed_at_unix_ns(incident.closed_at_unix_ns);
  const size_t steps = incident.steps.size();
  for (size_t i = steps - std::min<size_t>(steps, link_steps_max); i < steps; ++i) {
    const IncidentStep& step = incident.steps[i];
    link::v1::IncidentStep& told = *report.add_steps();
    told.set_action(std::string(heal_action_name(step.action)));
    told.set_reason(link_text(step.reason));
    told.set_outcome(link_text(step.outcome));
    told.set_started_at_unix_ns(step.intent_at_unix_ns);
    told.set_ended_at_unix_ns(step.done_at_unix_ns);
  }
  for (const EvidenceItem& item : incident.evidence) {
    if (report.evidence_size() == link_evidence_max) break;
    report.add_evidence(link_text(item.kind + ": " + item.text));
  }
  return report;
}

link::v1::SnapshotReport snapshot_report(std::string_view agent,
                                         const std::vector<checkpoint::SnapshotInfo>& snapshots) {
  link::v1::SnapshotReport report;
  report.set_container(std::string(agent));
  report.set_count(static_cast<int64_t>(snapshots.size()));
  const size_t all = snapshots.size();
  for (size_t i = all - std::min<size_t>(all, link_snapshots_max); i < all; ++i) {
    const checkpoint::SnapshotInfo& one = snapshots[i];
    link::v1::Snapshot& told = *report.add_snapshots();
    told.set_id(one.id);
    told.set_taken_at_unix_ns(one.record.taken_at_unix_ns);
    told.set_reason(link_text(one.record.reason));
    told.set_bytes(static_cast<int64_t>(one.record.content_bytes));
    told.set_files(static_cast<int64_t>(one.record.file_count));
    told.set_added_bytes(static_cast<int64_t>(one.record.added_bytes));
    told.set_problem(link_text(one.problem));
  }
  return report;
}

}  // namespace remora
