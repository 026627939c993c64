// The settings of all HealingPolicies, for the pods that are made now and for those that run. Each
// replica of the operator has one, for each answers admissions.
//
// Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/annotations.h"
#include "k8s/inject/inject.h"
#include "k8s/resources/resources.pb.h"
#include "k8s/watch/object_cache.h"

namespace remora::k8s {

// A policy as pods see it; defaults null: it sets nothing.
struct PodPolicy {
  v1alpha1::Selector selector;
  std::shared_ptr<const PolicyDefaults> defaults;
  std::vector<AvoidedNode> avoided{};
};
// From a HealingPolicy; nothing when it can't be read. Pure.
std::optional<PodPolicy> pod_policy_of(const nlohmann::ordered_json& policy);

// Of the copy of all HealingPolicies, which whoever wants one shares: /apis/….
std::string policies_path();

class Policies {
 public:
  // cache must outlive it.
  explicit Policies(ObjectCache& cache);
  // All are known.
  bool synced() const { return cache_.synced(); }
  const std::string& trouble() const { return cache_.trouble(); }
  // When what policies of a namespace say has changed; their status is no change.
  void on_change(std::function<void(const std::string& namespace_name)> changed) {
    changed_ = std::move(changed);
  }

  // Of the first policy by name that selects a pod with these labels; null: there is none, or it
  // sets nothing.
  std::shared_ptr<const PolicyDefaults> find(const std::string& namespace_name,
                                             const config::Annotations& labels) const;
  // Nodes that pods of the first such policy keep away from now.
  std::vector<AvoidedNode> avoided(const std::string& namespace_name,
                                   const config::Annotations& labels, WallTime now) const;

 private:
  const PodPolicy* first(const std::string& namespace_name,
                         const config::Annotations& labels) const;
  void on_object(const ObjectPtr& before, const ObjectPtr& after);

  const ObjectCache& cache_;
  std::map<std::string, std::map<std::string, PodPolicy>> policies_;  // by namespace, by name
  std::function<void(const std::string&)> changed_;
};

}  // namespace remora::k8s
