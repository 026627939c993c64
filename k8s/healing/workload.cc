#include "k8s/healing/workload.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <sstream>

namespace remora::k8s {
namespace {

constexpr const char* revision_annotation = "deployment.kubernetes.io/revision";
constexpr const char* hash_label = "pod-template-hash";
constexpr const char* revision_label = "controller-revision-hash";
constexpr size_t template_bytes_max = 1 << 20;

const Json& section(const Json& object, std::string_view key) {
  static const Json empty = Json::object();
  const Json* found = find_object(object, key);
  return found == nullptr ? empty : *found;
}

int64_t number_in(const std::string& text) {
  int64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

bool is_owned_by(const Json& metadata, const std::string& uid) {
  const Json* owners = find_array(metadata, "ownerReferences");
  return owners != nullptr && std::ranges::any_of(*owners, [&](const Json& owner) {
           return text_of(owner, "uid") == uid && bool_of(owner, "controller").value_or(false);
         });
}

std::vector<std::pair<std::string, std::string>> read_pairs(const std::string& text) {
  std::vector<std::pair<std::string, std::string>> pairs;
  std::istringstream words(text);
  for (std::string word; words >> word && pairs.size() < rollbacks_kept_max;) {
    const size_t arrow = word.find('>');
    if (arrow == std::string::npos) continue;
    pairs.emplace_back(word.substr(0, arrow), word.substr(arrow + 1));
  }
  return pairs;
}

WorkloadFacts read_workload(const char* kind, const Json& object) {
  WorkloadFacts workload;
  const Json& metadata = section(object, "metadata");
  const Json& annotations = section(metadata, "annotations");
  workload.kind = kind;
  workload.name = text_of(metadata, "name");
  workload.uid = text_of(metadata, "uid");
  workload.generation = integer_of(metadata, "generation").value_or(0);
  workload.paused = bool_of(section(object, "spec"), "paused").value_or(false);
  workload.has_annotations = !annotations.empty();
  workload.rolled_back = read_pairs(text_of(annotations, rollbacks_annotation));
  return workload;
}

void sort_revisions(WorkloadFacts& workload) {
  std::ranges::stable_sort(workload.revisions, std::greater<>(), &Revision::number);
}

// What a controller added to the template is not the user's.
std::string template_text(Json pod_template) {
  if (!pod_template.is_object() || pod_template.empty()) return {};
  pod_template.erase("$patch");
  if (const auto metadata = pod_template.find("metadata");
      metadata != pod_template.end() && metadata->is_object()) {
    if (const auto labels = metadata->find("labels");
        labels != metadata->end() && labels->is_object()) {
      labels->erase(hash_label);
    }
  }
  std::string text = pod_template.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() > template_bytes_max ? std::string() : text;
}

std::string label_of(const PodFacts& pod, const char* name) {
  const auto found = pod.labels.find(name);
  return found == pod.labels.end() ? std::string() : found->second;
}

std::string why_not_target(const WorkloadFacts& workload, const Revision& current,
                           const Revision& target, const std::vector<std::string>& sick,
                           Duration in_service_min) {
  const std::pair<std::string, std::string> pair(current.name, target.name);
  if (std::ranges::find(workload.rolled_back, pair) != workload.rolled_back.end()) {
    return "it was rolled back from " + current.name + " to " + target.name +
           " before: never twice between the same two";
  }
  if (std::ranges::any_of(workload.rolled_back,
                          [&](const auto& each) { return each.first == target.name; })) {
    return "the revision before, " + target.name + ", was left by a rollback itself";
  }
  if (target.pod_template.empty()) return "the template of " + target.name + " can't be read";
  // A dependency that is down makes both sick.
  if (target.replicas > 0 && target.ready_replicas == 0) {
    return "pods of the revision before, " + target.name + ", are not ready either";
  }
  if (target.ready_replicas > 0) return {};
  if (std::ranges::find(sick, target.name) != sick.end()) {
    return "pods of the revision before, " + target.name + ", had faults, too";
  }
  const bool proved = target.created_at && current.created_at &&
                      *current.created_at - *target.created_at >= in_service_min;
  return proved ? std::string()
                : "the revision before, " + target.name +
                      ", was not there long enough to be known "
                      "to work";
}

}  // namespace

WorkloadFacts read_deployment(const Json& deployment, const Json& replica_sets) {
  WorkloadFacts workload = read_workload("Deployment", deployment);
  const Json& own = section(section(deployment, "metadata"), "annotations");
  const int64_t newest = number_in(text_of(own, revision_annotation));
  const Json* items = find_array(replica_sets, "items");
  for (const Json& item : items == nullptr ? Json::array() : *items) {
    const Json& metadata = section(item, "metadata");
    if (workload.uid.empty() || !is_owned_by(metadata, workload.uid)) continue;
    Revision revision;
    revision.name = text_of(metadata, "name");
    revision.number = number_in(text_of(section(metadata, "annotations"), revision_annotation));
    revision.created_at = parse_time(text_of(metadata, "creationTimestamp"));
    revision.replicas = integer_of(section(item, "spec"), "replicas").value_or(0);
    revision.ready_replicas = integer_of(section(item, "status"), "readyReplicas").value_or(0);
    revision.pod_template = template_text(section(section(item, "spec"), "template"));
    if (revision.number == newest) workload.current = revision.name;
    workload.revisions.push_back(std::move(revision));
  }
  sort_revisions(workload);
  return workload;
}

WorkloadFacts read_stateful_set(const Json& stateful_set, const Json& revisions) {
  WorkloadFacts workload = read_workload("StatefulSet", stateful_set);
  workload.current = text_of(section(stateful_set, "status"), "updateRevision");
  const Json* items = find_array(revisions, "items");
  for (const Json& item : items == nullptr ? Json::array() : *items) {
    const Json& metadata = section(item, "metadata");
    if (workload.uid.empty() || !is_owned_by(metadata, workload.uid)) continue;
    Revision revision;
    revision.name = text_of(metadata, "name");
    revision.number = integer_of(item, "revision").value_or(0);
    revision.created_at = parse_time(text_of(metadata, "creationTimestamp"));
    revision.pod_template =
        template_text(section(section(section(item, "data"), "spec"), "template"));
    workload.revisions.push_back(std::move(revision));
  }
  sort_revisions(workload);
  return workload;
}

std::string revision_of(const PodFacts& pod) {
  if (pod.owner_kind == "ReplicaSet") return pod.owner_name;
  return pod.owner_kind == "StatefulSet" ? label_of(pod, revision_label) : std::string();
}

std::string workload_of(const PodFacts& pod) {
  const std::string ending = "-" + label_of(pod, hash_label);
  if (pod.owner_kind != "ReplicaSet" || ending.size() == 1 || !pod.owner_name.ends_with(ending)) {
    return pod.owner();
  }
  return "Deployment/" + pod.owner_name.substr(0, pod.owner_name.size() - ending.size());
}

RollbackChoice choose_rollback(const WorkloadFacts& workload, const PodFacts& pod,
                               const std::vector<std::string>& sick, Duration within,
                               Duration in_service_min, WallTime now) {
  if (workload.kind.empty()) return {.why = workload.trouble};
  const std::string bad = revision_of(pod);
  const auto current = std::ranges::find(workload.revisions, workload.current, &Revision::name);
  if (bad.empty() || current == workload.revisions.end()) {
    return {.why = "the newest revision of " + workload.key() + " is not known"};
  }
  if (current->name != bad) {
    return {.already = true, .why = workload.key() + " has left the pod's revision already"};
  }
  if (workload.paused) return {.why = workload.key() + " is paused: it rolls nothing out"};
  if (!current->created_at || now - *current->created_at > within) {
    return {.why = "the revision is too old to be what is wrong now"};
  }
  const auto target = std::next(current);
  if (target == workload.revisions.end()) {
    return {.why = workload.key() + " has no revision before this one"};
  }
  std::string why = why_not_target(workload, *current, *target, sick, in_service_min);
  if (!why.empty()) return {.why = std::move(why)};
  return {.target = &*target};
}

std::string rollback_patch(const WorkloadFacts& workload, const Revision& target,
                           const std::string& from, const std::string& cause) {
  std::vector<std::pair<std::string, std::string>> pairs = workload.rolled_back;
  pairs.emplace_back(from, target.name);
  if (pairs.size() > rollbacks_kept_max) pairs.erase(pairs.begin());
  std::string text;
  for (const auto& [bad, good] : pairs) text += (text.empty() ? "" : " ") + bad + ">" + good;
  Json patch = Json::array();
  patch.push_back({{"op", "test"}, {"path", "/metadata/uid"}, {"value", workload.uid}});
  patch.push_back(
      {{"op", "test"}, {"path", "/metadata/generation"}, {"value", workload.generation}});
  patch.push_back({{"op", "replace"},
                   {"path", "/spec/template"},
                   {"value", Json::parse(target.pod_template, nullptr, false)}});
  if (!workload.has_annotations) {
    patch.push_back({{"op", "add"}, {"path", "/metadata/annotations"}, {"value", Json::object()}});
  }
  const auto annotate = [&](std::string_view name, const std::string& value) {
    patch.push_back(
        {{"op", "add"}, {"path", "/metadata/annotations/" + pointer_step(name)}, {"value", value}});
  };
  annotate(rollbacks_annotation, text);
  annotate(change_cause_annotation, cause);
  return patch.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace remora::k8s
