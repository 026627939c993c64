// Names and places that the injection and the sidecar in the pod agree on.
#pragma once

#include <array>
#include <string_view>

namespace remora::config {

inline constexpr std::string_view annotation_prefix = "remora.dev/";
// Written by the injection: config::Injected as JSON. Also the mark that a pod has been injected.
inline constexpr std::string_view injected_annotation = "remora.dev/injected";
// Written by the injection: which HealingPolicy the pod's settings came from, and which of them.
inline constexpr std::string_view policy_annotation = "remora.dev/policy";
// Of the vocabulary (Healing.paused), and also the operator's business.
inline constexpr std::string_view pause_annotation = "remora.dev/pause";
// Written by the injection: the nodes that the pod rather keeps away from, until when, and why.
inline constexpr std::string_view avoids_annotation = "remora.dev/avoids-nodes";
// Known beside the vocabulary of config/annotations.h.
inline constexpr std::array<std::string_view, 3> other_annotations = {
    injected_annotation, policy_annotation, avoids_annotation};
// A label of this name and value "true" lets the webhook's selector see the pod.
inline constexpr std::string_view inject_label = "remora.dev/inject";

inline constexpr std::string_view pod_info_dir = "/etc/remora/pod";  // files annotations, labels
inline constexpr std::string_view pod_config_dir = "/etc/remora/config";
inline constexpr std::string_view pod_config_key = "remora.yaml";
inline constexpr std::string_view pod_store_dir = "/var/lib/remora";
// Not in the store, which several pods of a node may share, and which may keep no sockets.
inline constexpr std::string_view pod_run_dir = "/run/remora";
inline constexpr std::string_view pod_admin_socket = "/run/remora/admin.sock";
// A projected token of the pod's service account for the operator.
inline constexpr std::string_view pod_link_dir = "/var/run/secrets/remora.dev/link";
inline constexpr std::string_view pod_link_token = "/var/run/secrets/remora.dev/link/token";
inline constexpr std::string_view link_audience = "remora.dev/link";
// Beside it, whose certificates the operator shows: from a ConfigMap that the operator keeps in
// each namespace with sidecars, and the kubelet carries into running pods.
inline constexpr std::string_view pod_link_authorities = "/var/run/secrets/remora.dev/link/ca.crt";
inline constexpr std::string_view link_authorities_config_map = "remora-link-ca";
inline constexpr std::string_view link_authorities_key = "ca.crt";
// Ends an agent of a pod that never restarts its containers: the container restart rule is for its
// exit code. SIGSTKFLT: nothing sends it, next to nothing handles it, and it ends what doesn't.
inline constexpr int restart_signal = 16;
inline constexpr int restart_exit_code = 128 + restart_signal;
// Before SIGKILL, after which it is not started again.
inline constexpr int restart_signal_wait_ms = 2'000;
inline constexpr std::string_view binary_path = "/usr/local/bin/remora";  // in the image

// In the environment of each agent container: its own name, by which its processes are found.
inline constexpr std::string_view agent_env = "REMORA_AGENT";
inline constexpr std::string_view state_dir_env = "REMORA_STATE_DIR";

}  // namespace remora::config
