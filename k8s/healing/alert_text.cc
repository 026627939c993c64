#include "k8s/healing/alert_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "k8s/resources/crds.h"
#include "k8s/resources/message_json.h"

namespace remora::k8s {
namespace {

// Prometheus' data model: [a-zA-Z_][a-zA-Z0-9_]*
std::string label_name(std::string name) {
  for (char& c : name) {
    const bool fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!fits) c = '_';
  }
  if (name.empty() || (name[0] >= '0' && name[0] <= '9')) name.insert(0, "_");
  return name;
}

Json labels_of(const std::string& namespace_name, const IncidentRecord& incident,
               const std::map<std::string, std::string>& labels) {
  Json all = {{"severity", "warning"}};
  for (const auto& [name, value] : labels) all[label_name(name)] = value;
  // What tells one alert from another is ours.
  all["alertname"] = "RemoraIncident";
  all["namespace"] = namespace_name;
  all["incident"] = incident.name;
  all["pod"] = incident.spec.pod().name();
  all["fault"] = incident.spec.fault();
  all["policy"] = incident.spec.policy();
  return all;
}

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

bool is_alert(const IncidentRecord& incident) {
  return std::ranges::any_of(incident.status.steps(), [](const v1alpha1::IncidentStep& step) {
    return step.name() == "alert";
  });
}

std::string alertmanager_text(const std::string& namespace_name, const IncidentRecord& incident,
                              const std::map<std::string, std::string>& labels, WallTime now) {
  const std::string& ended = incident.status.ended_at();
  const std::string until = format_time(now + std::chrono::milliseconds(alert_life_ms));
  std::string tried;
  for (const v1alpha1::IncidentStep& step : incident.status.steps()) {
    if (step.name() != "alert") {
      tried += (tried.empty() ? "" : "; ") + step.name() + " " + step.state() +
               (step.message().empty() ? "" : ": " + step.message());
    }
  }
  return dump(Json::array(
      {{{"labels", labels_of(namespace_name, incident, labels)},
        {"annotations",
         {{"summary", "pod " + incident.spec.pod().name() + ": " + incident.spec.summary()},
          {"description", tried.empty() ? "nothing was tried" : tried}}},
        {"startsAt", incident.spec.detected_at()},
        {"endsAt", ended.empty() ? until : ended}}}));
}

std::string webhook_text(const std::string& namespace_name, const IncidentRecord& incident,
                         const std::map<std::string, std::string>& labels) {
  const std::string version = std::string(resource_group) + "/" + std::string(resource_version);
  return dump(
      Json{{"event", incident.status.ended_at().empty() ? "alert" : "resolved"},
           {"labels", labels_of(namespace_name, incident, labels)},
           {"incident",
            {{"apiVersion", version},
             {"kind", "Incident"},
             {"metadata",
              {{"name", incident.name}, {"namespace", namespace_name}, {"uid", incident.uid}}},
             {"spec", write_message(incident.spec)},
             {"status", write_message(incident.status)}}}});
}

}  // namespace remora::k8s
