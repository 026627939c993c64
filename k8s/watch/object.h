// One object of the cluster as a cache holds it: what it is called, and its JSON.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

namespace remora::k8s {

struct Object {
  std::string namespace_name;  // empty for what lies in none
  std::string name;
  std::string uid;
  std::string resource_version;
  nlohmann::ordered_json body;

  // "namespace/name", or "name".
  std::string key() const { return namespace_name.empty() ? name : namespace_name + "/" + name; }
};
using ObjectPtr = std::shared_ptr<const Object>;

inline std::string object_key(const std::string& namespace_name, const std::string& name) {
  return namespace_name.empty() ? name : namespace_name + "/" + name;
}

// Null when it has no name or no version: what no API server sends.
ObjectPtr make_object(nlohmann::ordered_json body);

}  // namespace remora::k8s
