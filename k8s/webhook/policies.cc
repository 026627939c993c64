#include "k8s/webhook/policies.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "k8s/resources/crds.h"
#include "k8s/resources/message_json.h"
#include "k8s/resources/selector.h"
#include "k8s/resources/settings.h"
#include "sidecar/base/log.h"
#include "sidecar/base/rfc3339.h"

namespace remora::k8s {
namespace {

// Of its specification.
int64_t generation_of(const Object& policy) {
  const Json* metadata = find_object(policy.body, "metadata");
  return metadata == nullptr ? 0 : integer_of(*metadata, "generation").value_or(0);
}

// Of its status, which is told again and again, only what concerns new pods.
Json avoided_nodes_of(const Object& policy) {
  const Json* status = find_object(policy.body, "status");
  const Json* avoided = status == nullptr ? nullptr : find_array(*status, "avoidedNodes");
  return avoided == nullptr ? Json() : *avoided;
}

bool is_same(const ObjectPtr& before, const ObjectPtr& after) {
  return before != nullptr && after != nullptr && before->uid == after->uid &&
         generation_of(*before) != 0 && generation_of(*before) == generation_of(*after) &&
         avoided_nodes_of(*before) == avoided_nodes_of(*after);
}

std::vector<AvoidedNode> read_avoided(const Json& policy) {
  std::vector<AvoidedNode> all;
  const Json* status = find_object(policy, "status");
  v1alpha1::HealingPolicyStatus read;
  if (status == nullptr || !read_message(*status, read)) return all;
  for (const v1alpha1::AvoidedNode& node : read.avoided_nodes()) {
    all.push_back({.node = node.node(),
                   .workload = node.workload(),
                   .until = node.until(),
                   .incident = node.incident()});
  }
  return all;
}

}  // namespace

std::optional<PodPolicy> pod_policy_of(const nlohmann::ordered_json& policy) {
  const Json* metadata = find_object(policy, "metadata");
  const Json* spec = find_object(policy, "spec");
  if (metadata == nullptr || spec == nullptr) return std::nullopt;
  v1alpha1::HealingPolicySpec read;
  if (!read_message(*spec, read)) return std::nullopt;
  PolicySettings settings = read_settings(*spec);
  PodPolicy made{.selector = read.selector(), .defaults = nullptr, .avoided = read_avoided(policy)};
  if (settings.annotations.empty()) return made;
  PolicyDefaults defaults{.name = text_of(*metadata, "name"),
                          .generation = integer_of(*metadata, "generation").value_or(0),
                          .settings = std::move(settings.annotations),
                          .trouble = config::in_words(settings.problems)};
  made.defaults = std::make_shared<const PolicyDefaults>(std::move(defaults));
  return made;
}

std::string policies_path() {
  return "/apis/" + std::string(resource_group) + "/" + std::string(resource_version) +
         "/healingpolicies";
}

Policies::Policies(ObjectCache& cache) : cache_(cache) {
  cache.on_change(
      [this](const ObjectPtr& before, const ObjectPtr& after) { on_object(before, after); });
}

void Policies::on_object(const ObjectPtr& before, const ObjectPtr& after) {
  if (is_same(before, after)) return;
  const Object& object = after != nullptr ? *after : *before;
  auto& here = policies_[object.namespace_name];
  here.erase(object.name);
  std::optional<PodPolicy> policy =
      after != nullptr ? pod_policy_of(after->body) : std::optional<PodPolicy>();
  if (policy) {
    if (policy->defaults != nullptr && !policy->defaults->trouble.empty()) {
      log_warn("policy_settings_refused", {{"namespace", object.namespace_name},
                                           {"policy", object.name},
                                           {"error", policy->defaults->trouble}});
    }
    here.emplace(object.name, *std::move(policy));
  }
  if (here.empty()) policies_.erase(object.namespace_name);
  if (changed_) changed_(object.namespace_name);
}

const PodPolicy* Policies::first(const std::string& namespace_name,
                                 const config::Annotations& labels) const {
  const auto here = policies_.find(namespace_name);
  if (here == policies_.end()) return nullptr;
  const std::map<std::string, std::string> plain(labels.begin(), labels.end());
  for (const auto& [name, policy] : here->second) {
    if (selects(policy.selector, plain)) return &policy;
  }
  return nullptr;
}

std::shared_ptr<const PolicyDefaults> Policies::find(const std::string& namespace_name,
                                                     const config::Annotations& labels) const {
  const PodPolicy* const policy = first(namespace_name, labels);
  return policy == nullptr ? nullptr : policy->defaults;
}

std::vector<AvoidedNode> Policies::avoided(const std::string& namespace_name,
                                           const config::Annotations& labels, WallTime now) const {
  const PodPolicy* const policy = first(namespace_name, labels);
  std::vector<AvoidedNode> all;
  if (policy == nullptr) return all;
  // In UTC, to the second: in the order of their texts.
  const std::string time =
      rfc3339(std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count());
  for (const AvoidedNode& node : policy->avoided) {
    if (time < node.until) all.push_back(node);
  }
  return all;
}

}  // namespace remora::k8s
