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

std::string list_path() {
  return "/apis/" + std::string(resource_group) + "/" + std::string(resource_version) +
         "/healingpolicies";
}

std::string in_words(const config::Problems& problems) {
  std::string text;
  for (const config::Problem& problem : problems) {
    text.append(text.empty() ? "" : "; ").append(config::format_problem(problem));
  }
  return text;
}

// Of its status, which is told again and again, only what concerns new pods.
void trim_policy(Json& policy) {
  const auto status = policy.find("status");
  if (status == policy.end()) return;
  Json kept = Json::object();
  if (const Json* avoided = find_array(*status, "avoidedNodes")) kept["avoidedNodes"] = *avoided;
  *status = std::move(kept);
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
                          .trouble = in_words(settings.problems)};
  made.defaults = std::make_shared<const PolicyDefaults>(std::move(defaults));
  return made;
}

Policies::Policies(Loop& loop, ApiClient& client, uint32_t seed)
    : cache_(loop, client, {.path = list_path(), .trim = trim_policy, .seed = seed}) {
  cache_.on_change(
      [this](const ObjectPtr& before, const ObjectPtr& after) { on_change(before, after); });
}

void Policies::on_change(const ObjectPtr& before, const ObjectPtr& after) {
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
