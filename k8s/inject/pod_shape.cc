#include "k8s/inject/pod_shape.h"

#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "config/scalar.h"
#include "k8s/inject/inject.h"

namespace remora::k8s {
namespace {

// Enough to see the pattern.
constexpr size_t shape_problems_max = 20;

class ShapeCheck {
 public:
  config::Problems run(const Json& pod) {
    if (!pod.is_object()) {
      complain("", "the pod is no mapping", "write metadata: and spec:");
      return std::move(problems_);
    }
    if (depth_of(pod, pod_depth_max) > pod_depth_max) {
      complain("", "nested more than " + std::to_string(pod_depth_max) + " deep",
               "check the brackets and the indentation");
      return std::move(problems_);
    }
    check_metadata(pod);
    const Json* spec = object(pod, "spec", "spec");
    if (spec == nullptr) {
      if (problems_.empty()) complain("spec", "is missing", "add it with containers");
      return std::move(problems_);
    }
    object(*spec, "securityContext", "spec.securityContext");
    check_named_list(*spec, "volumes", "spec");
    check_containers(*spec, "initContainers");
    check_containers(*spec, "containers");
    const Json* containers = find_array(*spec, "containers");
    if (problems_.empty() && (containers == nullptr || containers->empty())) {
      complain("spec.containers", "there is no container", "add the agent's");
    }
    return std::move(problems_);
  }

 private:
  void complain(const std::string& path, std::string message, std::string mend) {
    if (problems_.size() >= shape_problems_max) return;
    problems_.push_back({"pod", 0, 0, path, std::move(message), std::move(mend)});
  }

  const Json* object(const Json& parent, const std::string& key, const std::string& path) {
    const Json* value = find(parent, key);
    if (value == nullptr || value->is_object()) return value;
    complain(path, "is no mapping", "write NAME: VALUE lines");
    return nullptr;
  }

  const Json* list(const Json& parent, const std::string& key, const std::string& path) {
    const Json* value = find(parent, key);
    if (value == nullptr) return nullptr;
    if (!value->is_array()) {
      complain(path, "is no list", "begin each item with \"- \"");
      return nullptr;
    }
    for (size_t i = 0; i < value->size(); ++i) {
      if ((*value)[i].is_object()) continue;
      complain(path + "[" + std::to_string(i) + "]", "is no mapping", "write NAME: VALUE lines");
      return nullptr;
    }
    return value;
  }

  void check_metadata(const Json& pod) {
    const Json* metadata = object(pod, "metadata", "metadata");
    if (metadata == nullptr) return;
    for (const std::string key : {"annotations", "labels"}) {
      const Json* map = object(*metadata, key, "metadata." + key);
      if (map == nullptr) continue;
      for (const auto& [name, value] : map->items()) {
        if (value.is_string()) continue;
        complain("metadata." + key + "." + config::path_segment(name), "is no text",
                 "put the value in quotes");
      }
    }
  }

  void check_named_list(const Json& parent, const std::string& key, const std::string& path) {
    const Json* items = list(parent, key, path + "." + key);
    if (items == nullptr) return;
    std::set<std::string> seen;
    for (size_t i = 0; i < items->size(); ++i) {
      const std::string name = text_of((*items)[i], "name");
      const std::string item_path = path + "." + key + "[" + std::to_string(i) + "].name";
      if (name.empty()) {
        complain(item_path, "is missing", "give it a name");
      } else if (!seen.insert(name).second) {
        complain(item_path, config::quote(name) + " is there twice", "choose another name");
      }
    }
  }

  void check_containers(const Json& spec, const std::string& key) {
    check_named_list(spec, key, "spec");
    const Json* containers = find_array(spec, key);
    if (containers == nullptr || !problems_.empty()) return;
    for (size_t i = 0; i < containers->size(); ++i) {
      const Json& container = (*containers)[i];
      const std::string path = "spec." + key + "[" + std::to_string(i) + "]";
      for (const std::string name : {"env", "ports", "volumeMounts"}) {
        list(container, name, path + "." + name);
      }
      for (const std::string name : {"securityContext", "resources", "lifecycle", "startupProbe",
                                     "livenessProbe", "readinessProbe"}) {
        object(container, name, path + "." + name);
      }
    }
  }

  config::Problems problems_;
};

}  // namespace

config::Problems check_pod_shape(const Json& pod) { return ShapeCheck().run(pod); }

}  // namespace remora::k8s
