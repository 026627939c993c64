#include "k8s/webhook/policies.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "k8s/resources/crds.h"
#include "k8s/resources/message_json.h"
#include "k8s/resources/selector.h"
#include "k8s/resources/settings.h"
#include "sidecar/base/log.h"

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

// Its status is told again and again, and is no business of ours.
void keep_spec(Json& policy) { policy.erase("status"); }

}  // namespace

std::optional<PodPolicy> pod_policy_of(const nlohmann::ordered_json& policy) {
  const Json* metadata = find_object(policy, "metadata");
  const Json* spec = find_object(policy, "spec");
  if (metadata == nullptr || spec == nullptr) return std::nullopt;
  v1alpha1::HealingPolicySpec read;
  if (!read_message(*spec, read)) return std::nullopt;
  PolicySettings settings = read_settings(*spec);
  PodPolicy made{.selector = read.selector(), .defaults = nullptr};
  if (settings.annotations.empty()) return made;
  PolicyDefaults defaults{.name = text_of(*metadata, "name"),
                          .generation = integer_of(*metadata, "generation").value_or(0),
                          .settings = std::move(settings.annotations),
                          .trouble = in_words(settings.problems)};
  made.defaults = std::make_shared<const PolicyDefaults>(std::move(defaults));
  return made;
}

Policies::Policies(Loop& loop, ApiClient& client, uint32_t seed)
    : cache_(loop, client, {.path = list_path(), .trim = keep_spec, .seed = seed}) {
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

std::shared_ptr<const PolicyDefaults> Policies::find(const std::string& namespace_name,
                                                     const config::Annotations& labels) const {
  const auto here = policies_.find(namespace_name);
  if (here == policies_.end()) return nullptr;
  const std::map<std::string, std::string> plain(labels.begin(), labels.end());
  for (const auto& [name, policy] : here->second) {
    if (selects(policy.selector, plain)) return policy.defaults;
  }
  return nullptr;
}

}  // namespace remora::k8s
