// What people are told about an Incident, in the forms of those who pass it on. Pure.
#pragma once

#include <map>
#include <string>

#include "k8s/healing/plan.h"

namespace remora::k8s {

// Alertmanager calls an alert over that it has not heard of again by its end.
inline constexpr int alert_life_ms = 300'000;

// It has come to the step "alert": people are told, and when it is over, too.
bool is_alert(const IncidentRecord& incident);

// For POST /api/v2/alerts: one alert. labels: of the policy; characters that no label's name may
// have become "_".
std::string alertmanager_text(const std::string& namespace_name, const IncidentRecord& incident,
                              const std::map<std::string, std::string>& labels, WallTime now);
// {"event": "alert" or "resolved", "labels": …, "incident": the whole object}
std::string webhook_text(const std::string& namespace_name, const IncidentRecord& incident,
                         const std::map<std::string, std::string>& labels);

}  // namespace remora::k8s
