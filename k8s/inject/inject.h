// What makes a pod one that Remora rides along in, as a JSON patch (RFC 6902). Pure: a pod and
// options in, a patch, a reason to leave the pod alone, or everything that is wrong out. The
// webhook and `remora inject` are two callers of the same function.
//
// The patch touches only our paths and keeps every field it does not know. What somebody else wrote
// in one of our places wins: the patch adds what is missing there. So a pod that was injected
// before gets an empty patch, or only what others have added since.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/annotations.h"
#include "config/problem.h"

namespace remora::k8s {

// Deeper pods are refused; Kubernetes' own have at most about 12 levels.
inline constexpr size_t pod_depth_max = 64;
// Native sidecar containers are on by default from here on.
inline constexpr int kubernetes_minor_min = 29;  // of 1.x

inline constexpr std::string_view sidecar_container = "remora";
inline constexpr std::string_view intercept_container = "remora-intercept";

// Where injected sidecars reach the operator.
struct LinkTarget {
  std::string address;      // HOST:PORT; empty: nowhere
  std::string trusted_pem;  // whose certificates they are to believe
};

// As pods name it in spec.evictionResponders.
struct ResponderName {
  std::string_view name{};  // "remora.dev/snapshot"; empty: none
  int priority = 0;         // 1,000 to 100,000; higher ones are called first
};

enum class PodSecurity { kPrivileged, kBaseline, kRestricted };

// What a HealingPolicy sets in the pods that it selects.
struct PolicyDefaults {
  std::string name;
  int64_t generation = 0;
  // Keys with their prefix. Each holds where the pod has no annotation of that name.
  config::Annotations settings;
  // Why its settings are not used; empty: they are.
  std::string trouble{};
};

// A node that the pods of a workload rather keep away from.
struct AvoidedNode {
  std::string node;
  std::string workload;  // KIND/NAME
  std::string until;     // "2026-01-01T00:00:00Z"; whoever asks leaves out what has passed
  std::string incident;  // that says why
};

struct InjectOptions {
  std::string image;            // of the sidecar, unless the pod names one
  std::string product_version;  // recorded in the pod
  // Of the request; where the pod itself names one, that wins.
  std::string namespace_name = "default";
  // What happens to a pod that says nothing itself: the namespace's wish, or true offline.
  bool inject_by_default = false;
  std::string kubernetes_version{};  // "v1.34.4", "1.29+"; empty: not checked
  // The level that the namespace enforces.
  PodSecurity pod_security = PodSecurity::kPrivileged;
  // Left alone, beside Kubernetes' own: the namespace of the installation.
  std::vector<std::string> system_namespaces{};
  // Volumes that the pod will get later (a StatefulSet's volumeClaimTemplates).
  std::vector<std::string> later_volumes{};
  // Of the policy that selects the pod; null: none does.
  std::shared_ptr<const PolicyDefaults> policy{};
  std::vector<AvoidedNode> avoided{};
  LinkTarget link{};
  // Of the operator, which then has a snapshot taken before an eviction; empty: it is no responder.
  // The cluster must serve lifecycle.k8s.io/v1alpha1 (KEP-4563).
  ResponderName eviction_responder{};
};

struct Patch {
  std::string json;                     // RFC 6902; "[]" when nothing is to be done
  size_t operations = 0;                // in json
  std::vector<std::string> notes{};     // what is set and why, in words
  std::vector<std::string> warnings{};  // what is lost or worth knowing
};
struct Skip {
  std::string reason;
  // The pod asked for Remora and does not get it, so somebody should be told.
  bool warn = false;
};
using InjectResult = std::variant<Patch, Skip, config::Problems>;

// pod: a core/v1 Pod or a PodTemplateSpec. Never throws for any JSON.
InjectResult inject_pod(const nlohmann::ordered_json& pod, const InjectOptions& options);

// pod after patch; patch must come from inject_pod for the same pod.
nlohmann::ordered_json apply_patch(const nlohmann::ordered_json& pod, const Patch& patch);

}  // namespace remora::k8s
