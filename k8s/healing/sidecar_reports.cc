#include "k8s/healing/sidecar_reports.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

namespace remora::k8s {
namespace {

using v1alpha1::IncidentStatus;
using v1alpha1::SidecarHealing;

constexpr std::array<std::string_view, 9> sidecar_faults = {
    "crash",    "resource_exhaustion", "deadlock",        "hang", "state_damaged", "dependency",
    "overload", "requested",           "store_taken_over"};

bool is_open(const IncidentRecord& incident) { return incident.status.ended_at().empty(); }

bool is_of(const IncidentRecord& incident, const SidecarReport& report) {
  return incident.spec.pod().uid() == report.pod.uid() &&
         (incident.spec.container().empty() || incident.spec.container() == report.container);
}

const SidecarHealing* find_healing(const IncidentRecord& incident, const std::string& id) {
  const auto& all = incident.status.sidecar();
  const auto found = std::ranges::find(all, id, [](const auto& one) { return one.id(); });
  return found == all.end() ? nullptr : &*found;
}

const IncidentRecord* find_keeper(const SidecarReport& report,
                                  const std::map<std::string, IncidentRecord>& incidents) {
  for (const auto& [name, incident] : incidents) {
    const bool keeps = is_of(incident, report) && find_healing(incident, report.healing.id());
    if (keeps || name == incident_name_of(report)) return &incident;
  }
  // What is recorded only stays apart: it would hide in what is acted upon.
  if (is_advisory_fault(report.healing.fault())) return nullptr;
  const IncidentRecord* pod_wide = nullptr;
  for (const auto& [name, incident] : incidents) {
    if (!is_open(incident) || !is_of(incident, report)) continue;
    if (is_advisory_fault(incident.spec.fault())) continue;
    if (!incident.spec.container().empty()) return &incident;
    pod_wide = &incident;
  }
  return pod_wide;
}

void put(IncidentStatus& status, const SidecarHealing& healing) {
  for (SidecarHealing& known : *status.mutable_sidecar()) {
    if (known.id() != healing.id()) continue;
    known = healing;
    return;
  }
  while (status.sidecar_size() >= sidecar_healings_max) {
    const auto& all = status.sidecar();
    const auto ended =
        std::ranges::find_if(all, [](const auto& one) { return one.outcome() != "open"; });
    const int at = ended == all.end() ? 0 : static_cast<int>(ended - all.begin());
    status.mutable_sidecar()->DeleteSubrange(at, 1);
  }
  *status.add_sidecar() = healing;
}

// Of an Incident that is the sidecar's: its phase is what the reports say.
void set_phase(IncidentRecord& incident, WallTime now) {
  IncidentStatus& status = incident.status;
  const auto& all = status.sidecar();
  const bool goes_on =
      std::ranges::any_of(all, [](const auto& one) { return one.outcome() == "open"; });
  const bool gave_up = !all.empty() && all.rbegin()->outcome() == "gave_up";
  if (goes_on || gave_up) {
    if (status.steps_size() == 0) status.set_phase(goes_on ? "Healing" : "Open");
    status.clear_ended_at();
    status.clear_recovery_seconds();
    return;
  }
  // Steps of the plan's are ended by the plan, which looks at the pod itself.
  if (status.steps_size() > 0) return;
  status.set_phase("Resolved");
  status.clear_hold();
  const std::string& ended = all.empty() ? std::string() : all.rbegin()->ended_at();
  status.set_ended_at(ended.empty() ? format_time(now) : ended);
  const auto began = parse_time(incident.spec.began_at());
  const auto until = parse_time(status.ended_at());
  if (began && until && *until > *began) {
    status.set_recovery_seconds(to_ms(*until - *began) / 1000);
  }
}

// By what tells one moment of it from another: texts may have been mended on their way.
bool says_the_same(const SidecarHealing& a, const SidecarHealing& b) {
  return a.outcome() == b.outcome() && a.ended_at() == b.ended_at() &&
         a.steps_size() == b.steps_size();
}

std::string_view reason_of(const SidecarHealing& healing, bool is_new) {
  if (healing.outcome() == "open") return is_new ? "RemoraFoundFault" : "";
  if (healing.outcome() == "gave_up") return "RemoraGaveUp";
  return healing.outcome() == "recovered" ? "RemoraHealed" : "";
}

std::string words_of(const SidecarReport& report) {
  std::string text = "container " + report.container + ": " + report.healing.fault() + ": " +
                     report.healing.summary();
  if (report.healing.outcome() != "recovered" || report.healing.recovery_milliseconds() == 0) {
    return text;
  }
  std::array<char, 32> seconds{};
  std::snprintf(seconds.data(), seconds.size(), "%.1f",
                static_cast<double>(report.healing.recovery_milliseconds()) / 1000);
  return text + "; ready " + seconds.data() + " s after its first sign";
}

OpenIncident opened_by(const SidecarReport& report, const std::string& policy, WallTime now) {
  OpenIncident open;
  open.name = incident_name_of(report);
  *open.spec.mutable_pod() = report.pod;
  open.spec.set_container(report.container);
  open.spec.set_fault(report.healing.fault());
  open.spec.set_summary(report.healing.summary());
  open.spec.set_policy(policy);
  open.spec.set_detected_at(report.detected_at.empty() ? format_time(now) : report.detected_at);
  open.spec.set_began_at(report.healing.began_at());
  open.reason = "RemoraFoundFault";
  return open;
}

}  // namespace

bool is_sidecar_fault(std::string_view fault) {
  return std::ranges::find(sidecar_faults, fault) != sidecar_faults.end();
}

bool is_advisory_fault(std::string_view fault) {
  return fault == "dependency" || fault == "overload" || fault == "store_taken_over";
}

std::string report_key(const SidecarReport& report) {
  return report.pod.uid() + "/" + report.container + "/" + report.healing.id();
}

std::string incident_name_of(const SidecarReport& report) {
  return name_with_hash(report.pod.name(), report_key(report));
}

std::optional<HealAction> keep_report(const SidecarReport& report,
                                      const std::map<std::string, IncidentRecord>& incidents,
                                      const std::string& policy, WallTime now) {
  const IncidentRecord* keeper = find_keeper(report, incidents);
  if (keeper == nullptr) return opened_by(report, policy, now);
  const SidecarHealing* known = find_healing(*keeper, report.healing.id());
  if (known != nullptr && says_the_same(*known, report.healing)) return std::nullopt;
  UpdateIncident update{.incident = *keeper, .reason = {}, .message = words_of(report)};
  const bool is_its_own = keeper->name == incident_name_of(report);
  const bool is_told = known != nullptr && known->outcome() == report.healing.outcome();
  if (!is_told) update.reason = reason_of(report.healing, known == nullptr && !is_its_own);
  put(update.incident.status, report.healing);
  if (is_sidecar_fault(keeper->spec.fault())) set_phase(update.incident, now);
  return update;
}

std::optional<PodFault> fault_beyond_sidecar(const IncidentRecord& incident, const PodFacts& pod,
                                             const std::optional<PodFault>& seen) {
  const auto& all = incident.status.sidecar();
  if (is_advisory_fault(incident.spec.fault())) return std::nullopt;
  if (!all.empty() && all.rbegin()->outcome() == "gave_up" && !pod.ready) {
    const SidecarHealing& last = *all.rbegin();
    return PodFault{.kind = FaultKind::kGaveUp,
                    .container = incident.spec.container(),
                    .summary = "the sidecar gave up: " + last.fault() + ": " + last.summary(),
                    .began_at = parse_time(last.began_at())};
  }
  const bool is_same =
      seen && (seen->container.empty() || seen->container == incident.spec.container());
  return is_same ? seen : std::nullopt;
}

std::optional<WallTime> gave_up_at(const IncidentRecord& incident) {
  const auto& all = incident.status.sidecar();
  if (all.empty() || all.rbegin()->outcome() != "gave_up") return std::nullopt;
  return parse_time(all.rbegin()->ended_at());
}

bool is_for_plan(const IncidentRecord& incident, const std::optional<PodFault>& beyond) {
  const auto& all = incident.status.sidecar();
  const bool gave_up = !all.empty() && all.rbegin()->outcome() == "gave_up";
  return beyond || gave_up || incident.status.steps_size() > 0;
}

}  // namespace remora::k8s
