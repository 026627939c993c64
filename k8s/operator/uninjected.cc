#include "k8s/operator/uninjected.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "config/pod.h"
#include "k8s/inject/json_view.h"
#include "sidecar/base/rfc3339.h"

namespace remora::k8s {
namespace {

// Of an Event (core/v1 validation).
constexpr size_t message_bytes_max = 1024;
// Kubernetes' names of objects have at most 253 bytes; the UID and a dot have 37.
constexpr size_t pod_name_bytes_max = 200;
constexpr std::string_view component = "remora-operator";

bool is_over(const Json& pod, const Json& metadata) {
  const Json* status = find_object(pod, "status");
  const std::string phase = status == nullptr ? std::string() : text_of(*status, "phase");
  return phase == "Succeeded" || phase == "Failed" ||
         find(metadata, "deletionTimestamp") != nullptr;
}

bool was_injected(const Json& metadata) {
  const Json* annotations = find_object(metadata, "annotations");
  return annotations != nullptr && find(*annotations, config::injected_annotation) != nullptr;
}

// Empty when the pod is right as it is.
std::string reason_of(const InjectResult& result) {
  if (const auto* patch = std::get_if<Patch>(&result)) {
    if (patch->operations == 0) return {};
    return "Remora is missing in this pod: it was created while the webhook could not be asked, or "
           "before it was to be. Delete the pod, so that its controller makes a new one.";
  }
  if (const auto* skip = std::get_if<Skip>(&result)) return skip->warn ? skip->reason : "";
  std::string text = "Remora is missing in this pod, and would refuse it:";
  for (const config::Problem& problem : std::get<config::Problems>(result)) {
    text.append(" ").append(config::format_problem(problem)).append(".");
  }
  return text;
}

// A name's beginning must be a name again.
std::string beginning(std::string name) {
  if (name.size() > pod_name_bytes_max) name.resize(pod_name_bytes_max);
  while (!name.empty() && (name.back() == '.' || name.back() == '-')) name.pop_back();
  return name;
}

}  // namespace

std::optional<UninjectedPod> find_uninjected(const Json& pod, const InjectOptions& options) {
  const Json* metadata = find_object(pod, "metadata");
  if (metadata == nullptr || is_over(pod, *metadata) || was_injected(*metadata)) return {};
  UninjectedPod found{.name = text_of(*metadata, "name"),
                      .namespace_name = text_of(*metadata, "namespace"),
                      .uid = text_of(*metadata, "uid"),
                      .resource_version = text_of(*metadata, "resourceVersion"),
                      .why = reason_of(inject_pod(pod, options))};
  if (found.name.empty() || found.uid.empty() || found.why.empty()) return {};
  if (found.why.size() > message_bytes_max) found.why.resize(message_bytes_max);
  return found;
}

std::string uninjected_event(const UninjectedPod& pod, int64_t now_unix_s,
                             std::string_view instance) {
  const std::string now = rfc3339(now_unix_s);
  const Json event = {
      {"apiVersion", "v1"},
      {"kind", "Event"},
      {"metadata",
       {{"name", beginning(pod.name) + "." + pod.uid}, {"namespace", pod.namespace_name}}},
      {"involvedObject",
       {{"apiVersion", "v1"},
        {"kind", "Pod"},
        {"name", pod.name},
        {"namespace", pod.namespace_name},
        {"uid", pod.uid},
        {"resourceVersion", pod.resource_version}}},
      {"type", "Warning"},
      {"reason", "RemoraMissing"},
      {"message", pod.why},
      {"source", {{"component", component}}},
      {"reportingComponent", component},
      {"reportingInstance", instance},
      {"firstTimestamp", now},
      {"lastTimestamp", now},
      {"count", 1}};
  return event.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace remora::k8s
