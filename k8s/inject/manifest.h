// Manifests as people keep them: several documents in one text, of which some have pods inside.
// Documents without one come out byte for byte; the others are written anew.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "k8s/inject/inject.h"

namespace remora::k8s {

inline constexpr size_t manifest_text_bytes_max = 64 << 20;
// In one text, items of lists included.
inline constexpr size_t manifest_objects_max = 10'000;

// What happened to one object with a pod inside.
struct ObjectReport {
  std::string name;  // "document 2 (Deployment shop/agent)"
  InjectResult result;
  std::vector<std::string> warnings;  // beyond those of the patch
};

struct ManifestResult {
  std::string text;  // the manifests, injected; meant to be used only when problems is empty
  std::vector<ObjectReport> objects;
  // Each begins with the document that it is about.
  std::vector<std::string> problems;
};

// text: YAML or JSON, documents separated by "---". Kinds with a pod inside: Pod, Deployment,
// StatefulSet, DaemonSet, ReplicaSet, ReplicationController, Job, CronJob, PodTemplate, and List of
// any.
ManifestResult inject_manifests(std::string_view text, const InjectOptions& options);

}  // namespace remora::k8s
