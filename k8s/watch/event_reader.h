// The body of a watch: one JSON object a line, {"type":…,"object":…}, cut anywhere by the network.
// Pure; no bytes crash it.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "sidecar/base/error.h"

namespace remora::k8s {

// etcd takes 1.5 MiB an object; in JSON it is at most a few times larger.
inline constexpr size_t watch_event_bytes_max = 16 << 20;
inline constexpr size_t watch_event_depth_max = 200;

enum class EventType { kAdded, kModified, kDeleted, kBookmark, kError };

class EventReader {
 public:
  // May change object: it is the receiver's. False: no more events are wanted.
  using Event = std::function<bool(EventType type, nlohmann::ordered_json& object)>;

  // Tells of each event that is whole now. kProtocol for what is no event, kLimitExceeded for one
  // that is too large or nested too deep; nothing more may be fed then.
  Result<void> feed(std::string_view bytes, const Event& event);

 private:
  std::string line_;
};

}  // namespace remora::k8s
