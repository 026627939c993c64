// What sidecars send, as what the cluster keeps of it: checked, cut to what a custom resource
// holds, and in the name of the pod that the token names. Pure.
#pragma once

#include <string>
#include <vector>

#include "k8s/healing/plan.h"
#include "k8s/link/link.pb.h"
#include "k8s/link/token_review.h"
#include "k8s/resources/resources.pb.h"
#include "sidecar/base/error.h"

namespace remora::k8s {

// Of the lists and texts of a custom resource (k8s/resources/crds.cc).
inline constexpr int report_items_max = 64;
inline constexpr size_t report_text_bytes_max = 4096;
// Of the evidence and of each step's words: an Incident is for reading.
inline constexpr int report_evidence_max = 20;
inline constexpr size_t report_line_bytes_max = 1024;

// kInvalidArgument: an id, a kind of fault or an outcome that no sidecar of ours writes.
Result<SidecarReport> sidecar_report(const link::PodClaims& pod,
                                     const link::v1::IncidentReport& report);

// The newest report_items_max.
std::vector<v1alpha1::StoredSnapshot> stored_snapshots(const link::v1::SnapshotReport& report);

// The beginning of text, whole characters only, with spaces for control characters: one with a NUL
// could not be read again as part of a resource.
std::string cut(const std::string& text, size_t bytes_max);

}  // namespace remora::k8s
