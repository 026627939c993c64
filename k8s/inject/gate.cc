#include "k8s/inject/gate.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "config/pod.h"
#include "config/scalar.h"

namespace remora::k8s {
namespace {

constexpr std::array<std::string_view, 3> kubernetes_namespaces{"kube-system", "kube-public",
                                                                "kube-node-lease"};
constexpr std::string_view mirror_annotation = "kubernetes.io/config.mirror";

// "true", "false", or nothing; other values are reported where annotations are checked.
std::optional<bool> wish(const config::Annotations& map) {
  const auto it = map.find(config::inject_label);
  if (it == map.end()) return std::nullopt;
  if (it->second == "false") return false;
  return true;
}

bool is_system_namespace(const std::string& name, const InjectOptions& options) {
  return std::ranges::find(kubernetes_namespaces, name) != kubernetes_namespaces.end() ||
         std::ranges::find(options.system_namespaces, name) != options.system_namespaces.end();
}

std::string namespace_of(const Json& pod, const InjectOptions& options) {
  const Json* metadata = find_object(pod, "metadata");
  const std::string own = metadata == nullptr ? std::string() : text_of(*metadata, "namespace");
  return own.empty() ? options.namespace_name : own;
}

// What makes an injection impossible or dangerous, in words; empty when nothing does.
std::string obstacle(const Json& pod, const config::Annotations& annotations,
                     const InjectOptions& options) {
  const std::string name = namespace_of(pod, options);
  const Json& spec = pod.at("spec");
  if (is_system_namespace(name, options)) {
    return "the namespace " + name + " belongs to the system";
  }
  if (annotations.contains(mirror_annotation)) {
    return "it is the mirror of a static pod, which only its node's files can change";
  }
  if (bool_of(spec, "hostNetwork") == true) {
    return "it has hostNetwork, so that redirect rules and Remora's ports would be those of the "
           "whole node";
  }
  if (bool_of(spec, "hostPID") == true) {
    return "it has hostPID, so that Remora would see, and could mistake, processes of other pods";
  }
  const Json* os = find_object(spec, "os");
  if (os != nullptr && text_of(*os, "name") == "windows") return "it runs on Windows";
  return {};
}

// Major and minor.
std::optional<std::pair<int, int>> parse_version(std::string_view version) {
  if (version.starts_with('v')) version.remove_prefix(1);
  int major = 0;
  int minor = 0;
  const char* const end = version.data() + version.size();
  const auto first = std::from_chars(version.data(), end, major);
  if (first.ec != std::errc{} || first.ptr == end || *first.ptr != '.') return std::nullopt;
  if (std::from_chars(first.ptr + 1, end, minor).ec != std::errc{}) return std::nullopt;
  return std::pair(major, minor);
}

}  // namespace

config::Annotations metadata_map(const Json& pod, std::string_view key) {
  config::Annotations map;
  const Json* metadata = find_object(pod, "metadata");
  const Json* members = metadata == nullptr ? nullptr : find_object(*metadata, key);
  if (members == nullptr) return map;
  for (const auto& [name, value] : members->items()) map[name] = value.get<std::string>();
  return map;
}

std::optional<Skip> reason_to_skip(const Json& pod, const config::Annotations& annotations,
                                   const InjectOptions& options) {
  const std::optional<bool> by_annotation = wish(annotations);
  const std::optional<bool> by_label = wish(metadata_map(pod, "labels"));
  if (by_annotation == false || by_label == false)
    return Skip{"the pod says remora.dev/inject: false"};
  const bool asked = by_annotation.has_value() || by_label.has_value();
  if (!asked && !options.inject_by_default) {
    return Skip{"neither the pod nor its namespace asks for Remora (remora.dev/inject: true)"};
  }
  if (std::string why = obstacle(pod, annotations, options); !why.empty()) {
    return Skip{"Remora is not added to this pod: " + why, true};
  }
  return std::nullopt;
}

bool has_kubernetes_minor(const std::string& version, int minor) {
  const auto known = parse_version(version);
  return known && *known >= std::pair(1, minor);
}

config::Problems check_kubernetes_version(const std::string& version) {
  if (version.empty()) return {};
  if (!parse_version(version)) {
    return {{"Kubernetes", 0, 0, "", config::quote(version) + " is no version",
             "write one such as v1.34.4"}};
  }
  if (has_kubernetes_minor(version, kubernetes_minor_min)) return {};
  return {{"Kubernetes " + version, 0, 0, "",
           "has no native sidecar containers: the sidecar would start after the agent, die before "
           "it and keep Jobs from completing",
           "upgrade to 1." + std::to_string(kubernetes_minor_min) +
               " or later, or remove remora.dev/inject"}};
}

}  // namespace remora::k8s
