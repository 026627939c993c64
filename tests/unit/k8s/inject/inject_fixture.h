// Pods to inject, and questions about what came of them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "config/annotations.h"
#include "config/problem.h"
#include "k8s/inject/inject.h"
#include "k8s/inject/json_view.h"
#include "k8s/inject/yaml_json.h"

namespace remora::k8s {

inline InjectOptions test_options() {
  return {.image = "remora:test", .product_version = "1.2.3", .inject_by_default = true};
}

inline Json pod_of(const std::string& yaml) {
  const auto pod = yaml_to_json(yaml);
  EXPECT_TRUE(pod.has_value()) << pod.error().message;
  return pod.value_or(Json::object());
}

inline Json simple_pod() {
  return pod_of(R"(
metadata: {name: agent, namespace: shop}
spec:
  securityContext: {runAsUser: 1000, runAsGroup: 1000}
  containers:
    - name: agent
      image: agent:1
      ports: [{name: http, containerPort: 8000}]
)");
}

inline void annotate(Json& pod, const std::string& name, const std::string& value) {
  pod["metadata"]["annotations"]["remora.dev/" + name] = value;
}

inline std::vector<std::string> problem_lines(const InjectResult& result) {
  std::vector<std::string> lines;
  if (const auto* problems = std::get_if<config::Problems>(&result)) {
    for (const config::Problem& problem : *problems) {
      lines.push_back(config::format_problem(problem));
    }
  }
  return lines;
}

inline std::vector<std::string> problems_of(const Json& pod,
                                            const InjectOptions& options = test_options()) {
  return problem_lines(inject_pod(pod, options));
}

// An injected pod, with what was said about it.
struct Injected {
  Json pod;
  Patch patch;

  const Json& container(const std::string& list, const std::string& name) const {
    static const Json nothing = Json::object();
    const Json* found = find_named(find_array(pod["spec"], list), "name", name);
    EXPECT_NE(found, nullptr) << "no container " << name << " in " << list;
    return found == nullptr ? nothing : *found;
  }
  const Json& sidecar() const { return container("initContainers", "remora"); }
  const Json& agent(const std::string& name = "agent") const {
    return container("containers", name);
  }
  config::Injected record() const {
    const auto parsed = config::parse_injected(
        pod["metadata"]["annotations"]["remora.dev/injected"].get<std::string>());
    EXPECT_TRUE(parsed.has_value());
    return parsed.value_or(config::Injected());
  }
  std::string all_warnings() const {
    std::string text;
    for (const std::string& line : patch.warnings) text += line + "\n";
    return text;
  }
  std::string all_notes() const {
    std::string text;
    for (const std::string& line : patch.notes) text += line + "\n";
    return text;
  }
};

inline Injected inject(const Json& pod, const InjectOptions& options = test_options()) {
  InjectResult result = inject_pod(pod, options);
  for (const std::string& line : problem_lines(result)) ADD_FAILURE() << line;
  if (const auto* skip = std::get_if<Skip>(&result)) ADD_FAILURE() << "skipped: " << skip->reason;
  if (!std::holds_alternative<Patch>(result)) return {pod, Patch{}};
  Patch patch = std::get<Patch>(std::move(result));
  Json after = apply_patch(pod, patch);
  return {std::move(after), std::move(patch)};
}

// The text of the value of an environment variable; empty when it is not there.
inline std::string env_of(const Json& container, const std::string& name) {
  const Json* found = find_named(find_array(container, "env"), "name", name);
  return found == nullptr ? std::string() : text_of(*found, "value");
}

inline const Json* mount_of(const Json& container, const std::string& path) {
  return find_named(find_array(container, "volumeMounts"), "mountPath", path);
}

}  // namespace remora::k8s
