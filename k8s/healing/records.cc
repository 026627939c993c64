#include "k8s/healing/records.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "k8s/api/pod_event.h"
#include "k8s/resources/crds.h"
#include "k8s/resources/message_json.h"
#include "k8s/resources/settings.h"

namespace remora::k8s {
namespace {

std::string api_version() {
  return std::string(resource_group) + "/" + std::string(resource_version);
}

const Json& member(const Json& object, std::string_view key) {
  static const Json empty = Json::object();
  const Json* found = find_object(object, key);
  return found == nullptr ? empty : *found;
}

ObjectPath path_of(const char* plural, const std::string& namespace_name, const std::string& name) {
  return {.group = std::string(resource_group),
          .version = std::string(resource_version),
          .plural = plural,
          .namespace_name = namespace_name,
          .name = name};
}

std::string hash_text(const std::string& text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  std::array<char, 24> digits{};
  std::snprintf(digits.data(), digits.size(), "%016llx", static_cast<unsigned long long>(hash));
  return digits.data();
}

}  // namespace

Result<PolicyRecord> read_policy(const Json& object) {
  PolicyRecord policy;
  const Json& metadata = member(object, "metadata");
  policy.name = text_of(metadata, "name");
  policy.uid = text_of(metadata, "uid");
  policy.resource_version = text_of(metadata, "resourceVersion");
  policy.generation = integer_of(metadata, "generation").value_or(0);
  if (Result<void> read = read_message(member(object, "spec"), policy.spec); !read) {
    return std::unexpected(std::move(read.error()).with_context("spec"));
  }
  // What we wrote ourselves; what can't be read is written anew.
  if (!read_message(member(object, "status"), policy.status)) policy.status.Clear();
  PolicySettings settings = read_settings(member(object, "spec"));
  if (settings.problems.empty()) {
    policy.values = config::PolicyValues{.policy = policy.name,
                                         .generation = policy.generation,
                                         .annotations = std::move(settings.annotations)};
  }
  return policy;
}

Result<IncidentRecord> read_incident(const Json& object) {
  IncidentRecord incident;
  const Json& metadata = member(object, "metadata");
  incident.name = text_of(metadata, "name");
  incident.uid = text_of(metadata, "uid");
  incident.resource_version = text_of(metadata, "resourceVersion");
  if (Result<void> read = read_message(member(object, "spec"), incident.spec); !read) {
    return std::unexpected(std::move(read.error()).with_context("spec"));
  }
  if (Result<void> read = read_message(member(object, "status"), incident.status); !read) {
    return std::unexpected(std::move(read.error()).with_context("status"));
  }
  return incident;
}

ObjectPath incident_path(const std::string& namespace_name, const std::string& name) {
  return path_of("incidents", namespace_name, name);
}

ObjectPath policy_path(const std::string& namespace_name, const std::string& name) {
  return path_of("healingpolicies", namespace_name, name);
}

std::string incident_text(const std::string& namespace_name, const OpenIncident& open) {
  return Json{{"apiVersion", api_version()},
              {"kind", "Incident"},
              {"metadata", {{"name", open.name}, {"namespace", namespace_name}}},
              {"spec", write_message(open.spec)}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string incident_status_text(const IncidentRecord& incident) {
  Json status = write_message(incident.status);
  // A merge patch takes away only what it names.
  for (const char* key : {"hold", "endedAt", "recoverySeconds"}) {
    if (!status.contains(key)) status[key] = nullptr;
  }
  return Json{{"metadata", {{"resourceVersion", incident.resource_version}}},
              {"status", std::move(status)}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string policy_status_text(const std::string& namespace_name, const UpdatePolicy& update) {
  Json status = write_message(update.status);
  for (const char* key : {"pods", "readyPods", "openIncidents", "outdatedPods"}) {
    if (!status.contains(key)) status[key] = 0;
  }
  return Json{{"apiVersion", api_version()},
              {"kind", "HealingPolicy"},
              {"metadata", {{"name", update.name}, {"namespace", namespace_name}}},
              {"status", std::move(status)}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string drain_text(const std::string& namespace_name, const KeepDrain& drain) {
  const bool is_percentage = drain.min_available.ends_with('%');
  const int64_t number = std::strtoll(drain.min_available.c_str(), nullptr, 10);
  return Json{{"apiVersion", "policy/v1"},
              {"kind", "PodDisruptionBudget"},
              {"metadata",
               {{"name", drain_name(drain.policy)},
                {"namespace", namespace_name},
                {"labels", {{"app.kubernetes.io/managed-by", "remora"}}},
                {"ownerReferences", Json::array({{{"apiVersion", api_version()},
                                                  {"kind", "HealingPolicy"},
                                                  {"name", drain.policy},
                                                  {"uid", drain.policy_uid},
                                                  {"controller", true}}})}}},
              {"spec",
               {{"minAvailable", is_percentage ? Json(drain.min_available) : Json(number)},
                {"selector", write_message(drain.selector)},
                // Else pods that crash would keep their node from being drained for ever.
                {"unhealthyPodEvictionPolicy", "AlwaysAllow"}}}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

ObjectPath drain_path(const std::string& namespace_name, const std::string& name) {
  return {.group = "policy",
          .version = "v1",
          .plural = "poddisruptionbudgets",
          .namespace_name = namespace_name,
          .name = name};
}

std::string incident_event(const std::string& namespace_name, const IncidentRecord& incident,
                           const std::string& reason, const std::string& message,
                           const std::string& instance, WallTime now) {
  const v1alpha1::PodReference& pod = incident.spec.pod();
  const std::string what = incident.name + "/" + reason + "/" +
                           std::to_string(incident.status.steps_size()) + "/" + message;
  constexpr std::array<std::string_view, 5> warnings = {"RemoraFault", "RemoraAlert", "RemoraHeld",
                                                        "RemoraFoundFault", "RemoraGaveUp"};
  return pod_event_text(
      {.namespace_name = namespace_name,
       .name = pod_event_name(pod.name(), hash_text(what)),
       .pod_name = pod.name(),
       .pod_uid = pod.uid(),
       .container = incident.spec.container(),
       .related_version = api_version(),
       .related_kind = "Incident",
       .related_name = incident.name,
       .related_uid = incident.uid,
       .reason = reason,
       .message = message,
       .warns = std::ranges::find(warnings, reason) != warnings.end(),
       .component = "remora-operator",
       .host = instance,
       .instance = instance,
       .at_unix_s =
           std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count()});
}

std::string leaving_event(const std::string& namespace_name, const AskAgent& ask,
                          const std::string& instance, WallTime now) {
  return pod_event_text(
      {.namespace_name = namespace_name,
       .name = pod_event_name(ask.pod, hash_text(ask.agent + "/" + ask.id)),
       .pod_name = ask.pod,
       .pod_uid = ask.pod_uid,
       .related_version = api_version(),
       .related_kind = "AgentSnapshot",
       .related_name = ask.agent,
       .reason = "RemoraSnapshotBeforeMove",
       .message = "asked for a snapshot (" + ask.id + "): " + ask.why,
       .component = "remora-operator",
       .host = instance,
       .instance = instance,
       .at_unix_s =
           std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count()});
}

bool is_newer(const std::string& a, const std::string& b) {
  return a.size() != b.size() ? a.size() > b.size() : a > b;
}

}  // namespace remora::k8s
