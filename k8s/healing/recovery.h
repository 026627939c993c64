// Where the time of a recovery went, read out of an Incident. Pure.
#pragma once

#include <optional>

#include "k8s/resources/resources.pb.h"
#include "sidecar/base/clock.h"

namespace remora::k8s {

// They add up to the time from the fault's beginning to its end. Whole seconds, as Kubernetes'
// times are.
struct RecoverySplit {
  Duration detect{};  // from the fault's beginning until it was seen
  Duration decide{};  // until the first step was written down
  Duration act{};     // until the last one was: steps before it that did not help
  Duration ready{};   // until the pod, or the one in its place, was ready
  Duration total() const { return detect + decide + act + ready; }
};

// Nothing for one that isn't resolved, or whose times can't be read.
std::optional<RecoverySplit> recovery_split(const v1alpha1::IncidentSpec& spec,
                                            const v1alpha1::IncidentStatus& status);

}  // namespace remora::k8s
