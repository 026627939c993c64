// The vocabulary remora.dev/*: everything that a pod may set. There is one source, the field
// options `annotation` in config/remora.proto (what is configuration) and config/pod.proto (what
// exists only in a pod); reading, checking, docs/annotations.md and admission all derive from it.
//
// "remora.dev/NAME" holds for the pod, "remora.dev/NAME.CONTAINER" for one agent container and wins
// over the first. A value is parsed by the rules of the configuration file; lists may also be
// written "a, b", sections are YAML or JSON. Pure; no text crashes it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/annotation_file.h"
#include "config/load.h"
#include "config/pod.h"
#include "config/pod.pb.h"
#include "config/schema.h"

namespace remora::config {

// What Kubernetes allows all annotations of an object together, keys and values.
inline constexpr size_t annotations_bytes_max = 256 * 1024;

struct AnnotationEntry {
  std::string name;  // without the prefix: "hang-window"
  std::string path;  // "detection.hangWindow"; of a PodSettings field: its key
  const FieldDescriptor* field = nullptr;
  bool pod_only = false;  // a field of PodSettings
};

// In the order of the documentation: PodSettings first, then the sections of the configuration.
const std::vector<AnnotationEntry>& annotation_vocabulary();

// Keys of ours that nobody knows, each with the nearest name; and suffixes that are no agent or are
// not taken. agents empty: any suffix may be one.
Problems check_annotation_names(const Annotations& annotations,
                                std::span<const std::string> agents = {});

// Those that set configuration, as overrides for load_yaml and its kin. Names are not checked.
// agent empty: only what holds for the whole pod. What a policy has set is_default: the pod's
// configuration file wins over it.
std::vector<Override> annotation_overrides(const Annotations& annotations, std::string_view agent);

// Each value by itself: for whoever does not see the configuration file that they will meet. What
// could be read is in config, with defaults.
Problems check_annotation_values(const Annotations& annotations, std::string_view agent,
                                 Config& config);

struct PodSettingsResult {
  PodSettings settings;
  Problems problems;
};
// Complete with defaults when there are no problems.
PodSettingsResult pod_settings(const Annotations& annotations, std::string_view agent = {});

// Those of PodSettings.app_ports, which have passed pod_settings().
std::vector<InjectedPort> app_ports_of(const PodSettings& settings);

// The configuration in which an agent of this pod lives before its file and annotations: where
// Remora listens, where snapshots go, the agent's first port. As overrides, the sections
// interception, outbound and pod win over the file, all else is a default.
std::vector<Override> pod_overrides(const Injected& injected, const InjectedAgent& agent);

// What stands in injected_annotation. Unknown fields, of a later version, are left out.
Result<Injected> parse_injected(std::string_view json);
std::string render_injected(const Injected& injected);

// What stands in policy_annotation; empty when that is absent or somebody else has written it.
AppliedPolicy applied_policy(const Annotations& annotations);
std::string render_applied_policy(const AppliedPolicy& policy);

// What a HealingPolicy sets in its pods, as annotations.
struct PolicyValues {
  std::string policy;  // its name; empty: none applies
  int64_t generation = 0;
  Annotations annotations{};  // keys with their prefix
  friend bool operator==(const PolicyValues&, const PolicyValues&) = default;
};
// The pod's annotations with these in the place of what a policy had set before. The pod's own
// stay, and win.
Annotations with_policy(Annotations pod, const PolicyValues& values);

}  // namespace remora::config
