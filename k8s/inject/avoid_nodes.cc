#include "k8s/inject/avoid_nodes.h"

#include <nlohmann/json.hpp>

namespace remora::k8s {
namespace {

// Of the letters and digits that Kubernetes makes names' endings of (rand.SafeEncodeString).
bool is_hash(std::string_view text) {
  constexpr std::string_view letters = "bcdfghjklmnpqrstvwxz2456789";
  return text.size() >= 5 && text.size() <= 10 &&
         text.find_first_not_of(letters) == std::string_view::npos;
}

// KIND/NAME; empty: nobody controls the pod.
std::string owner_of(const Json& pod) {
  const Json* metadata = find_object(pod, "metadata");
  const Json* owners = metadata == nullptr ? nullptr : find_array(*metadata, "ownerReferences");
  if (owners == nullptr) return {};
  for (const Json& owner : *owners) {
    if (bool_of(owner, "controller") == true)
      return text_of(owner, "kind") + "/" + text_of(owner, "name");
  }
  return {};
}

// core/v1 PreferredSchedulingTerm. The heaviest: the node was bad a moment ago.
Json term_against(const std::string& node) {
  return {{"weight", 100},
          {"preference",
           {{"matchFields", Json::array({{{"key", "metadata.name"},
                                          {"operator", "NotIn"},
                                          {"values", Json::array({node})}}})}}}};
}

}  // namespace

std::string workload_of_owner(const std::string& owner) {
  constexpr std::string_view kind = "ReplicaSet/";
  const size_t dash = owner.rfind('-');
  if (!owner.starts_with(kind) || dash == std::string::npos || dash <= kind.size() ||
      !is_hash(std::string_view(owner).substr(dash + 1))) {
    return owner;
  }
  return "Deployment/" + owner.substr(kind.size(), dash - kind.size());
}

void avoid_nodes(Plan& plan, PatchBuilder& patch) {
  if (plan.before || plan.options.avoided.empty()) return;
  const std::string owner = owner_of(plan.pod);
  // A DaemonSet has one pod for that very node.
  if (owner.empty() || owner.starts_with("DaemonSet/")) return;
  const std::string workload = workload_of_owner(owner);
  const std::string list =
      "/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution";
  std::string words;
  for (const AvoidedNode& avoided : plan.options.avoided) {
    if (avoided.workload != workload) continue;
    patch.ensure("/spec/affinity", Json::object());
    patch.ensure("/spec/affinity/nodeAffinity", Json::object());
    patch.ensure(list, Json::array());
    patch.add(list + "/-", term_against(avoided.node));
    words += (words.empty() ? "" : "; ") + avoided.node + " until " + avoided.until +
             " (Incident " + avoided.incident + ")";
  }
  if (words.empty()) return;
  patch.ensure("/metadata", Json::object());
  patch.ensure("/metadata/annotations", Json::object());
  patch.add("/metadata/annotations/" + pointer_step(config::avoids_annotation), words);
  plan.note("the pod rather keeps away from node " + words);
}

}  // namespace remora::k8s
