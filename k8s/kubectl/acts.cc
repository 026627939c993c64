#include "k8s/kubectl/acts.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "config/pod.h"
#include "k8s/api/writes.h"
#include "k8s/healing/records.h"
#include "sidecar/base/exit_codes.h"

namespace remora::k8s {
namespace {

ObjectPath pod_path(const Cluster& cluster, const std::string& pod) {
  return {.group = "",
          .version = "v1",
          .plural = "pods",
          .namespace_name = cluster.namespace_name(),
          .name = pod};
}

std::string uid_of(const Json& object) {
  const Json* metadata = find_object(object, "metadata");
  return metadata == nullptr ? std::string() : text_of(*metadata, "uid");
}

// True once this life of the pod is over.
Result<bool> is_gone(Cluster& cluster, const std::string& pod, const std::string& uid) {
  ApiRequest request;
  request.path = pod_path(cluster, pod).object();
  const Result<ApiReply> reply = cluster.send(request);
  if (!reply) return std::unexpected(reply.error());
  if (reply->status == 404) return true;
  if (!reply->ok()) return std::unexpected(api_error(request, *reply));
  return uid_of(Json::parse(reply->body, nullptr, false)) != uid;
}

}  // namespace

Result<Outcome> drain_pod(Cluster& cluster, const std::string& pod, Duration wait) {
  const Result<Json> object = cluster.get(pod_path(cluster, pod).object());
  if (!object) return std::unexpected(object.error());
  const std::string uid = uid_of(*object);
  const WallTime end = cluster.now() + wait;
  const ApiRequest eviction = evict_request(cluster.namespace_name(), pod, uid);
  bool accepted = false;
  std::string why = "it is not gone yet";
  while (true) {
    if (!accepted) {
      const Result<ApiReply> reply = cluster.send(eviction);
      if (!reply) return std::unexpected(reply.error());
      accepted = reply->ok() || reply->status == 404;
      if (!accepted) {
        const ApiProblem problem = api_problem(eviction, *reply);
        if (problem.fault != ApiFault::kThrottled) return std::unexpected(problem.error);
        why = problem.error.message;
      } else {
        why = "it is not gone yet";
      }
    }
    if (accepted) {
      const Result<bool> gone = is_gone(cluster, pod, uid);
      if (!gone) return std::unexpected(gone.error());
      if (*gone) return Outcome{.text = "pod " + pod + " is drained and gone\n"};
    }
    if (cluster.now() >= end) break;
    cluster.wait(std::chrono::milliseconds(drain_poll_ms));
  }
  return Outcome{.text = "pod " + pod + ": " + why + "; --timeout says how long to wait\n",
                 .exit_code = exit_not_good};
}

Result<Outcome> pause_pod(Cluster& cluster, const std::string& pod, bool paused) {
  Json annotations;
  annotations[std::string(config::pause_annotation)] = paused ? Json("true") : Json(nullptr);
  const Json patch{{"metadata", {{"annotations", std::move(annotations)}}}};
  const Result<Json> changed =
      cluster.ask(merge_patch_request(pod_path(cluster, pod), patch.dump()));
  if (!changed) return std::unexpected(changed.error());
  return Outcome{.text = paused ? "pod " + pod +
                                      " is paused: faults are recorded and nothing is done to it. "
                                      "Its owner's next one is not\n"
                                : "pod " + pod + " is healed again\n"};
}

Result<Outcome> pause_policy(Cluster& cluster, const std::string& policy, bool paused) {
  const Json patch{{"spec", {{"paused", paused}}}};
  const Result<Json> changed =
      cluster.ask(merge_patch_request(policy_path(cluster.namespace_name(), policy), patch.dump()));
  if (!changed) return std::unexpected(changed.error());
  return Outcome{.text = "HealingPolicy " + policy +
                         (paused ? " is paused: faults are recorded and nothing is done\n"
                                 : " heals again\n")};
}

}  // namespace remora::k8s
