// A core/v1 Event about a pod, as the sidecar and the operator write it. Pure.
#pragma once

#include <cstdint>
#include <string>

namespace remora::k8s {

struct EventOfPod {
  std::string namespace_name;
  std::string
      name{};  // of the Event: the same happening, the same name; empty: the server's choice
  std::string pod_name;
  std::string pod_uid;
  std::string pod_version{};      // resourceVersion; empty: unknown
  std::string container{};        // of the pod; empty: the whole pod
  std::string related_version{};  // apiVersion of what it is about besides; empty: nothing
  std::string related_kind{};
  std::string related_name{};
  std::string related_uid{};
  std::string reason;
  std::string message;  // cut to what the API server takes
  bool warns = false;
  std::string component;  // "remora-operator"
  std::string host{};     // node, or replica
  std::string instance;   // of the component
  int64_t at_unix_s = 0;
};

// The body of POST …/events.
std::string pod_event_text(const EventOfPod& event);

// "NAME.SUFFIX" with as much of the pod's name as an object's name has room for.
std::string pod_event_name(std::string pod_name, const std::string& suffix);

}  // namespace remora::k8s
