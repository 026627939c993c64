// Incidents of pods that are gone or on their way, and how an Incident ends. Pure; used by
// ladder.cc only.
#pragma once

#include <optional>
#include <string>

#include "k8s/healing/ladder.h"

namespace remora::k8s {

void add_evidence(v1alpha1::IncidentStatus& status, const std::string& line);
// Null: there was none.
v1alpha1::IncidentStep* last_step(v1alpha1::IncidentStatus& status);
void end_step(v1alpha1::IncidentStep& step, const char* state, const std::string& message,
              WallTime now);
// The last step is written down and not done yet.
bool is_intended(const IncidentRecord& incident);
UpdateIncident resolved(IncidentRecord incident, const std::string& how, WallTime now,
                        std::optional<WallTime> well_since = {});

// Asks for what is not known of a pod's claims; false: of one nothing is.
bool know_claims(const PodFacts& pod, const NamespaceView& view, NamespacePlan& plan);

// The pod is no more: its Incident ends once another one is ready in its place, or, where none
// comes (its owner was made smaller), when all others are well. pod: its object, which a lost node
// leaves behind; null: it is gone.
void plan_without_pod(IncidentRecord incident, const PodFacts* pod,
                      const Replacements& replacements, Duration limit, const NamespaceView& view,
                      NamespacePlan& plan);

}  // namespace remora::k8s
