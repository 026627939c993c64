// The steps of the ladder as requests, and what is read for them alone.
#include <nlohmann/json.hpp>
#include <utility>

#include "k8s/healing/controller_look.h"
#include "k8s/healing/quantity.h"
#include "k8s/healing/records.h"
#include "sidecar/base/log.h"

namespace remora::k8s {
namespace {

// More than any revisionHistoryLimit that people set.
constexpr int revisions_max = 500;
constexpr int events_max = 50;

ObjectPath workload_path(const std::string& namespace_name, const char* plural,
                         const std::string& name) {
  return {.group = "apps",
          .version = "v1",
          .plural = plural,
          .namespace_name = namespace_name,
          .name = name};
}

// The controller of an object, of that kind; empty: it has none.
std::string controller_of(const Json& object, std::string_view kind) {
  const Json* metadata = find_object(object, "metadata");
  const Json* owners = metadata == nullptr ? nullptr : find_array(*metadata, "ownerReferences");
  if (owners == nullptr) return {};
  for (const Json& owner : *owners) {
    const bool controls = bool_of(owner, "controller").value_or(false);
    if (controls && text_of(owner, "kind") == kind) return text_of(owner, "name");
  }
  return {};
}

// What all pods of a workload and their revisions have, ready for a query; others may have it, too.
std::string selector_of(const Json& workload) {
  const Json* spec = find_object(workload, "spec");
  const Json* selector = spec == nullptr ? nullptr : find_object(*spec, "selector");
  const Json* labels = selector == nullptr ? nullptr : find_object(*selector, "matchLabels");
  std::string text;
  if (labels == nullptr) return text;
  for (const auto& [key, value] : labels->items()) {
    if (!value.is_string()) continue;
    text += (text.empty() ? "" : ",") + key + "=" + value.get<std::string>();
  }
  return percent_encoded(text);
}

}  // namespace

void HealingController::act(const LookPtr& look, const EvictPod& action) {
  if (action.is_cut_off && agents_.fence) return fence(look, action);
  evict(look, action);
}

void HealingController::evict(const LookPtr& look, const EvictPod& action) {
  const v1alpha1::PodReference& pod = action.incident.spec.pod();
  send(look, evict_request(look->namespace_name, pod.name(), pod.uid()),
       [this, look, action](const Result<ApiReply>& reply) { on_evicted(look, action, reply); });
}

void HealingController::on_evicted(const LookPtr& look, const EvictPod& action,
                                   const Result<ApiReply>& reply) {
  const v1alpha1::PodReference& pod = action.incident.spec.pod();
  const ApiRequest request = evict_request(look->namespace_name, pod.name(), pod.uid());
  if (!reply) return judge(look, request, reply, false);
  if (reply->ok()) {
    return end_eviction(look, action, StepOutcome::kDone, "the pod was evicted");
  }
  const ApiProblem problem = api_problem(request, *reply);
  switch (problem.fault) {
    case ApiFault::kNotFound:
      return end_eviction(look, action, StepOutcome::kDone, "the pod was gone already");
    // The name belongs to another pod by now, or a disruption budget has changed meanwhile: nothing
    // was done, and the watch tells which. The step stays intended and is looked at again.
    case ApiFault::kConflict:
    case ApiFault::kAlreadyExists:
      return judge(look, request, reply, false);
    case ApiFault::kThrottled:
      // Its budget counts ready pods; one that isn't ready takes nothing from it by going.
      if (!action.pod_ready) return delete_unready(look, action);
      return end_eviction(look, action, StepOutcome::kHeld, problem.error.message);
    default:
      judge(look, request, reply, false);
      return end_eviction(look, action, StepOutcome::kHeld, problem.error.message);
  }
}

// In the very state in which it was seen not to be ready, or not at all.
void HealingController::delete_unready(const LookPtr& look, const EvictPod& action) {
  const v1alpha1::PodReference& pod = action.incident.spec.pod();
  const ObjectPath path{.group = "",
                        .version = "v1",
                        .plural = "pods",
                        .namespace_name = look->namespace_name,
                        .name = pod.name()};
  const ApiRequest request =
      delete_request(path, {.uid = pod.uid(), .resource_version = action.pod_version});
  send(look, request, [this, look, action, request](const Result<ApiReply>& reply) {
    if (!reply || !reply->ok()) {
      judge(look, request, reply, false);
      return end_eviction(look, action, StepOutcome::kHeld,
                          "a disruption budget forbids the eviction, and the pod has changed");
    }
    end_eviction(look, action, StepOutcome::kDone,
                 "the pod was deleted: not ready, it counts for no disruption budget");
  });
}

void HealingController::end_eviction(const LookPtr& look, const EvictPod& action,
                                     StepOutcome outcome, const std::string& message) {
  (outcome == StepOutcome::kDone ? metrics_.evicted : metrics_.refused).add();
  if (action.is_cut_off && agents_.end_fence) {
    agents_.end_fence(look->namespace_name, action.incident.spec.pod().uid(),
                      outcome == StepOutcome::kDone);
  }
  act(look, after_step(action.incident, outcome, message, loop_.clock().wall_now()));
}

// --- resize ---
void HealingController::act(const LookPtr& look, const ResizePod& action) {
  const std::string& pod = action.incident.spec.pod().name();
  Json resources = {{"limits", {{"memory", format_quantity(action.limit_bytes)}}}};
  if (action.request_bytes) {
    resources["requests"] = {{"memory", format_quantity(*action.request_bytes)}};
  }
  ApiRequest request;
  request.method = "PATCH";
  request.path = "/api/v1/namespaces/" + look->namespace_name + "/pods/" + pod + "/resize";
  request.content_type = "application/strategic-merge-patch+json";
  request.body =
      Json{{"metadata", {{"uid", action.incident.spec.pod().uid()}}},
           {"spec",
            {{"containers",
              Json::array({{{"name", action.container}, {"resources", std::move(resources)}}})}}}}
          .dump();
  send(look, request, [this, look, action, request](const Result<ApiReply>& reply) {
    if (!reply) return judge(look, request, reply, false);
    if (reply->ok()) {
      metrics_.resizes.add();
      const std::string limit = format_quantity(action.limit_bytes);
      return act(look, after_step(action.incident, StepOutcome::kDone,
                                  "container " + action.container + " has " + limit +
                                      " of memory now, without a restart; what " +
                                      action.incident.spec.pod().owner() +
                                      " makes next begins with the limit of its template",
                                  loop_.clock().wall_now()));
    }
    end_write(look, action.incident, request, *reply);
  });
}

// An answer that is no success: those that asking again could mend are looked at again.
void HealingController::end_write(const LookPtr& look, const IncidentRecord& incident,
                                  const ApiRequest& request, const ApiReply& reply) {
  const ApiProblem problem = api_problem(request, reply);
  switch (problem.fault) {
    case ApiFault::kForbidden:
    case ApiFault::kInvalid:
    case ApiFault::kNotFound:
      return act(look, after_step(incident, StepOutcome::kImpossible, problem.error.message,
                                  loop_.clock().wall_now()));
    default:
      return judge(look, request, reply, false);
  }
}

// --- roll_back ---
void HealingController::act(const LookPtr& look, const RollBack& action) {
  const bool is_set = action.workload.kind == "StatefulSet";
  const std::string cause = "Remora rolled back from " + action.from + " to " + action.target.name +
                            ": " + action.incident.spec.fault() + " of pod " +
                            action.incident.spec.pod().name();
  const ApiRequest request = json_patch_request(
      workload_path(look->namespace_name, is_set ? "statefulsets" : "deployments",
                    action.workload.name),
      rollback_patch(action.workload, action.target, action.from, cause));
  send(look, request, [this, look, action, request, is_set](const Result<ApiReply>& reply) {
    // What follows is decided from what is there then: also where the answer was lost.
    places_[look->namespace_name].workloads.erase(action.owner);
    look->outcome.again_after = std::chrono::milliseconds(heal_gather_ms);
    if (!reply) return judge(look, request, reply, false);
    if (reply->ok()) {
      metrics_.rollbacks.add();
      log_warn("rolled_back", {{"namespace", look->namespace_name},
                               {"workload", action.workload.key()},
                               {"from", action.from},
                               {"to", action.target.name}});
      // The pod of a StatefulSet is to be taken away first.
      if (is_set) return;
      return act(look,
                 after_step(action.incident, StepOutcome::kDone, "", loop_.clock().wall_now()));
    }
    constexpr int test_failed = 422;  // it has changed since it was read
    if (reply->status != test_failed) end_write(look, action.incident, request, *reply);
  });
}

// A ReplicaSet's Deployment, or a StatefulSet, and then its revisions.
void HealingController::act(const LookPtr& look, const ReadWorkload& action) {
  const bool is_set = action.owner_kind == "StatefulSet";
  if (!is_set && action.owner_kind != "ReplicaSet") {
    return keep_workload(look, action,
                         {.trouble = "a " + action.owner_kind +
                                     " keeps no "
                                     "revisions that it could go back to"});
  }
  const char* const plural = is_set ? "statefulsets" : "replicasets";
  read(look, action, workload_path(look->namespace_name, plural, action.owner_name).object(),
       [this, look, action, is_set](const Json& owner) {
         if (is_set) return read_revisions(look, action, owner);
         const std::string deployment = controller_of(owner, "Deployment");
         if (deployment.empty()) {
           return keep_workload(look, action, {.trouble = action.owner() + " has no Deployment"});
         }
         read(look, action, workload_path(look->namespace_name, "deployments", deployment).object(),
              [this, look, action](const Json& found) { read_revisions(look, action, found); });
       });
}

void HealingController::read_revisions(const LookPtr& look, const ReadWorkload& action,
                                       const Json& workload) {
  const bool is_set = action.owner_kind == "StatefulSet";
  const ObjectPath path =
      workload_path(look->namespace_name, is_set ? "controllerrevisions" : "replicasets", "");
  read(look, action,
       path.collection() + "?limit=" + std::to_string(revisions_max) +
           "&labelSelector=" + selector_of(workload),
       [this, look, action, workload, is_set](const Json& revisions) {
         keep_workload(look, action,
                       is_set ? read_stateful_set(workload, revisions)
                              : read_deployment(workload, revisions));
       });
}

// then: with what was found. What can't be read for good is kept as the reason why nothing is done.
void HealingController::read(const LookPtr& look, const ReadWorkload& action, std::string path,
                             std::function<void(const Json&)> then) {
  const ApiRequest request{.path = std::move(path)};
  send(look, request,
       [this, look, action, request, then = std::move(then)](const Result<ApiReply>& reply) {
         if (reply && reply->ok()) {
           const Json body = Json::parse(reply->body, nullptr, false);
           return then(body.is_discarded() ? Json::object() : body);
         }
         const bool for_good = reply && (reply->status == 403 || reply->status == 404);
         if (!for_good) return judge(look, request, reply, false);
         keep_workload(look, action, {.trouble = api_error(request, *reply).message});
       });
}

void HealingController::keep_workload(const LookPtr& look, const ReadWorkload& action,
                                      WorkloadFacts workload) {
  workload.read_at = loop_.clock().wall_now();
  places_[look->namespace_name].workloads[action.owner()] = std::move(workload);
  look->outcome.again_after = std::chrono::milliseconds(heal_gather_ms);
}

// --- what the pod's status does not say ---
void HealingController::act(const LookPtr& look, const ReadPodEvents& action) {
  const ApiRequest request{
      .path = "/api/v1/namespaces/" + look->namespace_name +
              "/events?limit=" + std::to_string(events_max) + "&fieldSelector=" +
              percent_encoded("involvedObject.uid=" + action.uid + ",type=Warning")};
  send(look, request, [this, look, action, request](const Result<ApiReply>& reply) {
    judge(look, request, reply, false);
    if (!reply || !reply->ok()) return;
    const Json list = Json::parse(reply->body, nullptr, false);
    PodEvents events = read_pod_events(list.is_discarded() ? Json::object() : list);
    events.read_at = loop_.clock().wall_now();
    places_[look->namespace_name].events[action.uid] = std::move(events);
    look->outcome.again_after = std::chrono::milliseconds(heal_gather_ms);
  });
}

// --- drain ---
void HealingController::act(const LookPtr& look, const KeepDrain& action) {
  const ApiRequest request =
      apply_request(drain_path(look->namespace_name, drain_name(action.policy)),
                    drain_text(look->namespace_name, action));
  send(look, request, [this, look, action, request](const Result<ApiReply>& reply) {
    judge(look, request, reply, false);
    if (reply && reply->ok()) return;
    // It isn't kept yet.
    places_[look->namespace_name].memory[action.policy].drain_kept_at.reset();
  });
}

void HealingController::act(const LookPtr& look, const EndDrain& action) {
  const ApiRequest request = delete_request(drain_path(look->namespace_name, action.budget), {});
  send(look, request, [this, look, action, request](const Result<ApiReply>& reply) {
    const bool is_gone = reply && (reply->ok() || reply->status == 404);
    if (!is_gone) return judge(look, request, reply, false);
    // The policy's status may forget it now.
    places_[look->namespace_name].memory[action.policy].drain_ended = true;
    look->outcome.again_after = std::chrono::milliseconds(heal_gather_ms);
  });
}

}  // namespace remora::k8s
