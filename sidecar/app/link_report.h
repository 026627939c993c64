// Incidents and snapshots as the sidecar tells the operator of them. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/store.h"
#include "k8s/link/link.pb.h"
#include "sidecar/heal/incident.h"

namespace remora {

// For reading in a list; the whole stays in the store (remora incident show).
inline constexpr int link_evidence_max = 20;
inline constexpr int link_steps_max = 64;
inline constexpr int link_snapshots_max = 64;
inline constexpr size_t link_text_bytes_max = 1024;

link::v1::IncidentReport incident_report(std::string_view agent, const Incident& incident);
// The newest link_snapshots_max.
link::v1::SnapshotReport snapshot_report(std::string_view agent,
                                         const std::vector<checkpoint::SnapshotInfo>& snapshots);

// The beginning of text as UTF-8: what is none is replaced.
std::string link_text(std::string_view text);

}  // namespace remora
