#include "k8s/operator/uninjected.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "config/pod.h"
#include "k8s/api/pod_event.h"
#include "k8s/inject/json_view.h"

namespace remora::k8s {
namespace {

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
  return found;
}

std::string uninjected_event(const UninjectedPod& pod, int64_t now_unix_s,
                             std::string_view instance) {
  return pod_event_text({.namespace_name = pod.namespace_name,
                         .name = pod_event_name(pod.name, pod.uid),
                         .pod_name = pod.name,
                         .pod_uid = pod.uid,
                         .pod_version = pod.resource_version,
                         .reason = "RemoraMissing",
                         .message = pod.why,
                         .warns = true,
                         .component = "remora-operator",
                         .instance = std::string(instance),
                         .at_unix_s = now_unix_s});
}

}  // namespace remora::k8s
