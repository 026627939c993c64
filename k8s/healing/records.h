// Policies and Incidents as records, from their objects; and objects from records. Pure.
#pragma once

#include <optional>
#include <string>

#include "k8s/api/writes.h"
#include "k8s/healing/plan.h"
#include "k8s/watch/object.h"
#include "sidecar/base/error.h"

namespace remora::k8s {

Result<PolicyRecord> read_policy(const Json& object);
Result<IncidentRecord> read_incident(const Json& object);

ObjectPath incident_path(const std::string& namespace_name, const std::string& name);
ObjectPath policy_path(const std::string& namespace_name, const std::string& name);

std::string incident_text(const std::string& namespace_name, const OpenIncident& open);
// For a merge patch of its status: refused when the Incident has changed since.
std::string incident_status_text(const IncidentRecord& incident);
// For an apply of its status.
std::string policy_status_text(const std::string& namespace_name, const UpdatePolicy& update);

// A policy/v1 PodDisruptionBudget, for an apply; it goes with its policy.
std::string drain_text(const std::string& namespace_name, const KeepDrain& drain);
ObjectPath drain_path(const std::string& namespace_name, const std::string& name);

// A core/v1 Event about the Incident's pod. The same happening has the same name, whoever tells it
// and however often.
std::string incident_event(const std::string& namespace_name, const IncidentRecord& incident,
                           const std::string& reason, const std::string& message,
                           const std::string& instance, WallTime now);

// A core/v1 Event about a pod whose node is about to be emptied.
std::string leaving_event(const std::string& namespace_name, const AskAgent& ask,
                          const std::string& instance, WallTime now);

// Whether version a is newer than b, both of one object: numbers of etcd's.
bool is_newer(const std::string& a, const std::string& b);

}  // namespace remora::k8s
