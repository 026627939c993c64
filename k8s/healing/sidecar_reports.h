// What a pod's sidecar has found and done by itself, and the Incident in which it is kept: one that
// is open for the same container, whoever opened it, or one of its own. Pure.
//
// A report may come again, in any order of sidecars and after any time: it is kept once. While a
// sidecar heals, the Incident is in its hands; it ends with the report that says so. One that gave
// up is a fault of its own for the plan, and so is what the operator sees by itself meanwhile.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "k8s/healing/plan.h"

namespace remora::k8s {

// Of one Incident: past it the oldest that has ended goes.
inline constexpr int sidecar_healings_max = 16;

// A kind of fault that only a sidecar reports ("crash", "hang", …).
bool is_sidecar_fault(std::string_view fault);
// One that is never acted upon: the agent waits for others, or has too much to do.
bool is_advisory_fault(std::string_view fault);

// For the same happening the same key.
std::string report_key(const SidecarReport& report);
// Of the Incident that is opened for it.
std::string incident_name_of(const SidecarReport& report);

// What there is to do with a report: nothing more (nullopt) when an Incident says the same already.
// policy: of the pod; empty: none.
std::optional<HealAction> keep_report(const SidecarReport& report,
                                      const std::map<std::string, IncidentRecord>& incidents,
                                      const std::string& policy, WallTime now);

// Of an open Incident that a sidecar's report has opened: the fault for the plan to act upon, if it
// is not in the sidecar's hands. seen: what the operator sees of the pod by itself.
std::optional<PodFault> fault_beyond_sidecar(const IncidentRecord& incident, const PodFacts& pod,
                                             const std::optional<PodFault>& seen);
// What its readiness probe finds reaches the pod's status a little later than what its sidecar
// tells.
inline constexpr int unready_told_ms_max = 10'000;
// When the sidecar gave up on it, if that is the last that it did.
std::optional<WallTime> gave_up_at(const IncidentRecord& incident);
// Whether the plan has to do with such an Incident: it is not in the sidecar's hands, or the plan
// has taken steps.
bool is_for_plan(const IncidentRecord& incident, const std::optional<PodFault>& beyond);

}  // namespace remora::k8s
