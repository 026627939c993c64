// What `kubectl remora explain` says of one pod: which value each setting has and who gave it, and
// in words what was added to the pod. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "k8s/inject/json_view.h"
#include "k8s/kubectl/status.h"
#include "sidecar/base/error.h"

namespace remora::k8s {

struct Setting {
  std::string name;   // "detection.hangWindow"
  std::string value;  // secrets left out
  std::string from;   // "annotation remora.dev/hang-window", "ConfigMap agents, line 3", "default"
  bool is_default = false;
};
struct SettingGroup {
  std::string title;
  std::vector<Setting> settings;
};

struct Explanation {
  std::string pod;  // "namespace/name"
  std::string version;
  std::vector<std::string> injected;  // in words
  std::vector<SettingGroup> groups;
  std::vector<std::string> problems;  // what the sidecar refuses, too
};

struct ExplainInput {
  Json pod;
  std::vector<Json> policies;              // of its namespace
  std::optional<std::string> config_file;  // of its ConfigMap, as it is now
};

// Which ConfigMap the pod names; empty: none.
std::string config_map_of(const Json& pod);
// kInvalidArgument when Remora isn't in the pod.
Result<Explanation> explain_pod(const ExplainInput& input);
// all: also what has its default.
std::string render_explanation(const Explanation& explanation, Form form, bool all);

}  // namespace remora::k8s
