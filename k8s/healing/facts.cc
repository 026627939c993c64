#include "k8s/healing/facts.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <nlohmann/json.hpp>
#include <ranges>
#include <utility>

#include "config/annotations.h"
#include "config/pod.h"
#include "k8s/healing/quantity.h"
#include "k8s/inject/inject.h"
#include "sidecar/base/rfc3339.h"

namespace remora::k8s {
namespace {

constexpr size_t message_bytes_max = 300;
// Of kubectl cordon and drain, the cluster autoscaler, and Karpenter (v1, and before it).
constexpr std::array<std::string_view, 4> leaving_taints = {
    "node.kubernetes.io/unschedulable", "ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted",
    "karpenter.sh/disruption"};

constexpr std::array<std::pair<FaultKind, std::string_view>, 8> kinds = {{
    {FaultKind::kCrashLoop, "crash_loop"},
    {FaultKind::kOutOfMemory, "out_of_memory"},
    {FaultKind::kNodeUnready, "node_unready"},
    {FaultKind::kImagePull, "image_pull"},
    {FaultKind::kConfigError, "config_error"},
    {FaultKind::kVolumeError, "volume_error"},
    {FaultKind::kUnready, "unready"},
    {FaultKind::kGaveUp, "gave_up"},
}};

const Json& empty_object() {
  static const Json empty = Json::object();
  return empty;
}

const Json& section(const Json& object, std::string_view key) {
  const Json* found = find_object(object, key);
  return found == nullptr ? empty_object() : *found;
}

std::optional<Termination> termination_of(const Json& state) {
  const Json* ended = find_object(state, "terminated");
  if (ended == nullptr) return std::nullopt;
  return Termination{.exit_code = integer_of(*ended, "exitCode").value_or(0),
                     .reason = text_of(*ended, "reason"),
                     .ended_at = parse_time(text_of(*ended, "finishedAt"))};
}

std::optional<int64_t> memory_of(const Json& resources, std::string_view kind) {
  return parse_quantity(text_of(section(resources, kind), "memory"));
}

ContainerFacts read_container(const Json& status, const Json* specs) {
  ContainerFacts container;
  container.name = text_of(status, "name");
  container.image_id = text_of(status, "imageID");
  if (const Json* spec = find_named(specs, "name", container.name)) {
    const Json& resources = section(*spec, "resources");
    container.image = text_of(*spec, "image");
    container.pulls_always = text_of(*spec, "imagePullPolicy") == "Always";
    container.memory_limit_bytes = memory_of(resources, "limits");
    container.memory_request_bytes = memory_of(resources, "requests");
  }
  container.ready = bool_of(status, "ready").value_or(false);
  container.restarts = integer_of(status, "restartCount").value_or(0);
  const Json& state = section(status, "state");
  if (const Json* running = find_object(state, "running")) {
    container.running = true;
    container.started_at = parse_time(text_of(*running, "startedAt"));
  }
  if (const Json* waiting = find_object(state, "waiting")) {
    container.waiting_reason = text_of(*waiting, "reason");
    container.waiting_message = text_of(*waiting, "message");
    if (container.waiting_message.size() > message_bytes_max) {
      container.waiting_message.resize(message_bytes_max);
    }
  }
  container.ended = termination_of(state);
  if (!container.ended) container.ended = termination_of(section(status, "lastState"));
  return container;
}

void read_owner(const Json& metadata, PodFacts& pod) {
  const Json* owners = find_array(metadata, "ownerReferences");
  if (owners == nullptr) return;
  for (const Json& owner : *owners) {
    if (!bool_of(owner, "controller").value_or(false)) continue;
    pod.owner_kind = text_of(owner, "kind");
    pod.owner_name = text_of(owner, "name");
    pod.owner_uid = text_of(owner, "uid");
  }
}

void read_claims(const Json& spec, PodFacts& pod) {
  const Json* volumes = find_array(spec, "volumes");
  if (volumes == nullptr) return;
  for (const Json& volume : *volumes) {
    const Json* claim = find_object(volume, "persistentVolumeClaim");
    if (claim != nullptr) pod.claims.push_back(text_of(*claim, "claimName"));
  }
}

// The record of the injection is large, and for the sidecar.
bool is_kept_annotation(std::string_view key) {
  return key.starts_with(config::annotation_prefix) && key != config::injected_annotation;
}

void read_annotations(const Json& metadata, PodFacts& pod) {
  for (const auto& [key, value] : section(metadata, "annotations").items()) {
    if (!is_kept_annotation(key) || !value.is_string()) continue;
    pod.annotations[key] = value.get<std::string>();
  }
  const config::AppliedPolicy applied = config::applied_policy(pod.annotations);
  for (const std::string& name : applied.settings()) {
    pod.from_policy.insert(std::string(config::annotation_prefix) + name);
  }
  pod.annotations.erase(std::string(config::policy_annotation));
  const auto pause = pod.annotations.find(config::pause_annotation);
  pod.paused = pause != pod.annotations.end() && pause->second == "true";
}

const Json* condition_of(const Json& status, std::string_view type) {
  return find_named(find_array(status, "conditions"), "type", type);
}

// Keeps these members of an object, and no others.
void keep(Json& object, std::initializer_list<std::string_view> members) {
  if (!object.is_object()) return;
  Json kept = Json::object();
  for (const std::string_view member : members) {
    if (const auto found = object.find(member); found != object.end()) {
      kept[std::string(member)] = std::move(*found);
    }
  }
  object = std::move(kept);
}

// Of each item of a list: these members only.
void keep_of_items(Json& object, std::string_view list,
                   std::initializer_list<std::string_view> members) {
  const auto found = object.find(list);
  if (found == object.end() || !found->is_array()) return;
  for (Json& item : *found) keep(item, members);
}

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::ranges::find(words, text) != words.end();
}

// Since when a pod runs without getting ready, as far as its containers let it: while one of them
// ends and is started anew that is no state of its own, but part of a crash loop.
std::optional<WallTime> unready_since(const PodFacts& pod) {
  std::optional<WallTime> since = pod.ready_since;
  if (!since) return since;
  for (const ContainerFacts& container : pod.containers) {
    if (container.ready) continue;
    std::optional<WallTime> changed = container.started_at;
    if (!container.running && container.ended) changed = container.ended->ended_at;
    if (changed) since = std::max(*since, *changed);
  }
  return since;
}

std::optional<PodFault> container_fault(const ContainerFacts& container) {
  PodFault fault;
  fault.container = container.name;
  const std::string& waiting = container.waiting_reason;
  if (is_one_of(waiting, {"ErrImagePull", "ImagePullBackOff", "InvalidImageName",
                          "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable"})) {
    fault.kind = FaultKind::kImagePull;
    fault.summary = waiting + ": " + container.waiting_message;
    return fault;
  }
  if (is_one_of(waiting, {"CreateContainerConfigError", "CreateContainerError", "RunContainerError",
                          "PreCreateHookError", "PostStartHookError"})) {
    fault.kind = FaultKind::kConfigError;
    fault.summary = waiting + ": " + container.waiting_message;
    return fault;
  }
  if (!container.ended || container.ready) return std::nullopt;
  const Termination& ended = *container.ended;
  fault.began_at = ended.ended_at;
  const bool loops = waiting == "CrashLoopBackOff";
  if (ended.reason == "OOMKilled" && (loops || container.restarts > 0)) {
    fault.kind = FaultKind::kOutOfMemory;
    fault.summary =
        "killed for want of memory, " + std::to_string(container.restarts) + " restarts so far";
    return fault;
  }
  if (!loops) return std::nullopt;
  // It never ran: between its tries it looks like a crash loop, and is still the same fault.
  if (is_one_of(ended.reason, {"StartError", "ContainerCannotRun"})) {
    fault.kind = FaultKind::kConfigError;
    fault.summary = ended.reason + ": the container can't be started, see its command and mounts";
    return fault;
  }
  fault.kind = FaultKind::kCrashLoop;
  fault.summary = "ends with code " + std::to_string(ended.exit_code) + " (" + ended.reason +
                  ") again and again, " + std::to_string(container.restarts) + " restarts so far";
  return fault;
}

// The Events name it; the pod's status only says that a container is being created.
std::optional<PodFault> volume_fault(const PodFacts& pod, const PodEvents& events) {
  for (const auto& event : std::views::reverse(events.events)) {
    if (!is_one_of(event.reason, {"FailedMount", "FailedAttachVolume", "FailedMapVolume"})) {
      continue;
    }
    std::string summary = event.reason + ": " + event.message;
    if (event.message.starts_with("Multi-Attach")) {
      summary +=
          " (the node that it was used on is to let go of it first: Kubernetes waits 6 "
          "minutes for one that is lost, or until a person who knows that it is off taints "
          "it node.kubernetes.io/out-of-service)";
    }
    return PodFault{.kind = FaultKind::kVolumeError,
                    .container = {},
                    .summary = std::move(summary),
                    .began_at = pod.created_at};
  }
  return std::nullopt;
}

}  // namespace

std::optional<WallTime> parse_time(std::string_view text) {
  const std::string copy(text.substr(0, 40));
  std::tm parts{};
  const char* const rest = ::strptime(copy.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (rest == nullptr || !(*rest == 'Z' || *rest == '.')) return std::nullopt;
  const int year = parts.tm_year + 1900;
  if (year < time_year_min || year > time_year_max) return std::nullopt;
  return WallTime(std::chrono::seconds(::timegm(&parts)));
}

std::string format_time(WallTime time) {
  return rfc3339(std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count());
}

PodFacts read_pod(const Object& object) {
  PodFacts pod;
  pod.namespace_name = object.namespace_name;
  pod.name = object.name;
  pod.uid = object.uid;
  pod.resource_version = object.resource_version;
  const Json& metadata = section(object.body, "metadata");
  const Json& status = section(object.body, "status");
  const Json& spec = section(object.body, "spec");
  pod.node = text_of(spec, "nodeName");
  pod.phase = text_of(status, "phase");
  pod.deleting = find(metadata, "deletionTimestamp") != nullptr;
  pod.created_at = parse_time(text_of(metadata, "creationTimestamp"));
  read_annotations(metadata, pod);
  pod.has_sidecar =
      find_named(find_array(spec, "initContainers"), "name", sidecar_container) != nullptr;
  for (const auto& [key, value] : section(metadata, "labels").items()) {
    if (value.is_string()) pod.labels[key] = value.get<std::string>();
  }
  read_owner(metadata, pod);
  if (const Json* ready = condition_of(status, "Ready")) {
    pod.ready = text_of(*ready, "status") == "True";
    pod.ready_since = parse_time(text_of(*ready, "lastTransitionTime"));
  }
  for (const char* list : {"initContainers", "containers"}) {
    const bool is_init = list[0] == 'i';
    const Json* statuses =
        find_array(status, is_init ? "initContainerStatuses" : "containerStatuses");
    if (statuses == nullptr) continue;
    const Json* specs = find_array(spec, list);
    for (const Json& each : *statuses) {
      if (!each.is_object()) continue;
      pod.containers.push_back(read_container(each, specs));
      pod.containers.back().is_init = is_init;
    }
  }
  read_claims(spec, pod);
  // Also "Deferred": the node has no room for it now, and may have later.
  if (const Json* resize = condition_of(status, "PodResizePending")) {
    pod.resize_refusal = text_of(*resize, "reason") + ": " + text_of(*resize, "message");
  }
  return pod;
}

void trim_pod(Json& pod) {
  keep(pod, {"metadata", "spec", "status"});
  if (!pod.is_object()) return;
  if (const auto spec = pod.find("spec"); spec != pod.end()) {
    keep(*spec, {"nodeName", "initContainers", "containers", "volumes"});
    if (spec->is_object()) {
      for (const char* list : {"initContainers", "containers"}) {
        keep_of_items(*spec, list, {"name", "image", "imagePullPolicy", "resources"});
      }
      keep_of_items(*spec, "volumes", {"persistentVolumeClaim"});
    }
  }
  if (const auto status = pod.find("status"); status != pod.end()) {
    keep(*status, {"phase", "conditions", "initContainerStatuses", "containerStatuses"});
  }
  const auto metadata = pod.find("metadata");
  if (metadata == pod.end()) return;
  keep(*metadata, {"namespace", "name", "uid", "resourceVersion", "creationTimestamp",
                   "deletionTimestamp", "labels", "annotations", "ownerReferences"});
  if (!metadata->is_object()) return;
  const auto annotations = metadata->find("annotations");
  if (annotations == metadata->end() || !annotations->is_object()) return;
  Json kept = Json::object();
  for (auto& [key, value] : annotations->items()) {
    if (is_kept_annotation(key)) kept[key] = std::move(value);
  }
  *annotations = std::move(kept);
}

NodeFacts read_node(const Object& object) {
  NodeFacts node;
  node.name = object.name;
  node.created_at = parse_time(text_of(section(object.body, "metadata"), "creationTimestamp"));
  if (const Json* ready = condition_of(section(object.body, "status"), "Ready")) {
    node.ready = text_of(*ready, "status") == "True";
    node.why = text_of(*ready, "message");
    node.since = parse_time(text_of(*ready, "lastTransitionTime"));
  }
  const Json& spec = section(object.body, "spec");
  if (bool_of(spec, "unschedulable").value_or(false)) node.leaving = "it is cordoned";
  const Json* taints = find_array(spec, "taints");
  if (taints == nullptr) return node;
  for (const Json& taint : *taints) {
    const std::string key = text_of(taint, "key");
    const bool says_more =
        node.leaving.empty() && std::ranges::find(leaving_taints, key) != leaving_taints.end();
    if (says_more) node.leaving = "it has the taint " + key;
  }
  return node;
}

void trim_node(Json& node) {
  keep(node, {"metadata", "spec", "status"});
  if (!node.is_object()) return;
  if (const auto status = node.find("status"); status != node.end()) keep(*status, {"conditions"});
  if (const auto spec = node.find("spec"); spec != node.end()) {
    keep(*spec, {"unschedulable", "taints"});
  }
  if (const auto metadata = node.find("metadata"); metadata != node.end()) {
    keep(*metadata, {"name", "uid", "resourceVersion", "creationTimestamp"});
  }
}

std::string_view to_string(FaultKind kind) {
  const auto found = std::ranges::find(kinds, kind, [](const auto& pair) { return pair.first; });
  return found->second;
}

std::optional<FaultKind> fault_kind_of(std::string_view name) {
  const auto found = std::ranges::find(kinds, name, [](const auto& pair) { return pair.second; });
  if (found == kinds.end()) return std::nullopt;
  return found->first;
}

PodEvents read_pod_events(const Json& list) {
  PodEvents read;
  const Json* items = find_array(list, "items");
  if (items == nullptr) return read;
  for (const Json& item : *items) {
    if (text_of(item, "type") != "Warning") continue;
    std::optional<WallTime> at = parse_time(text_of(item, "lastTimestamp"));
    if (!at) at = parse_time(text_of(section(item, "series"), "lastObservedTime"));
    if (!at) at = parse_time(text_of(item, "eventTime"));
    std::string message = text_of(item, "message");
    if (message.size() > message_bytes_max) message.resize(message_bytes_max);
    read.events.push_back(
        {.reason = text_of(item, "reason"), .message = std::move(message), .last_at = at});
  }
  std::ranges::stable_sort(read.events, std::less<>(), [](const PodEvent& event) {
    return event.last_at.value_or(WallTime{});
  });
  return read;
}

bool starts_slowly(const PodFacts& pod, WallTime now) {
  const bool waits = pod.phase == "Pending" && !pod.node.empty() && pod.created_at &&
                     now - *pod.created_at >= std::chrono::milliseconds(slow_start_ms);
  return waits && std::ranges::none_of(pod.containers, [](const ContainerFacts& container) {
           return container.running || container.ended;
         });
}

std::optional<PodFault> find_fault(const PodFacts& pod, const NodeFacts* node,
                                   const PodEvents* events, WallTime now, Duration unready_after) {
  if (pod.deleting || pod.ended()) return std::nullopt;
  if (node != nullptr && !node->ready) {
    return PodFault{.kind = FaultKind::kNodeUnready,
                    .container = {},
                    .summary = "node " + node->name + " is not ready: " + node->why,
                    .began_at = node->since};
  }
  for (const ContainerFacts& container : pod.containers) {
    if (std::optional<PodFault> fault = container_fault(container)) return fault;
  }
  if (events != nullptr && starts_slowly(pod, now)) {
    if (std::optional<PodFault> fault = volume_fault(pod, *events)) return fault;
  }
  const bool running = pod.phase == "Running" && !pod.ready;
  const std::optional<WallTime> since = unready_since(pod);
  if (!running || !since || now - *since < unready_after) return std::nullopt;
  return PodFault{.kind = FaultKind::kUnready,
                  .container = {},
                  .summary = "runs and has not been ready for " +
                             std::to_string(to_ms(now - *since) / 1000) + " s",
                  .began_at = since};
}

}  // namespace remora::k8s
