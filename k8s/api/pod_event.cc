#include "k8s/api/pod_event.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "sidecar/base/rfc3339.h"

namespace remora::k8s {
namespace {

using Json = nlohmann::ordered_json;

// Of an Event: 1,024 by the validation of core/v1; a character that is cut may grow.
constexpr size_t message_bytes_max = 1000;
// Kubernetes' names of objects have at most 253 bytes; a UID or hash and a dot have 37.
constexpr size_t pod_name_bytes_max = 200;

}  // namespace

std::string pod_event_text(const EventOfPod& event) {
  const std::string time = rfc3339(event.at_unix_s);
  Json metadata = {{"namespace", event.namespace_name}};
  if (event.name.empty()) {
    metadata["generateName"] = "remora-";
  } else {
    metadata["name"] = event.name;
  }
  Json object = {{"apiVersion", "v1"},
                 {"kind", "Pod"},
                 {"namespace", event.namespace_name},
                 {"name", event.pod_name},
                 {"uid", event.pod_uid}};
  if (!event.pod_version.empty()) object["resourceVersion"] = event.pod_version;
  if (!event.container.empty()) {
    object["fieldPath"] = "spec.containers{" + event.container + "}";
  }
  Json source = {{"component", event.component}};
  if (!event.host.empty()) source["host"] = event.host;
  Json text = {{"apiVersion", "v1"},
               {"kind", "Event"},
               {"metadata", std::move(metadata)},
               {"involvedObject", std::move(object)},
               {"reason", event.reason},
               {"message", event.message.substr(0, message_bytes_max)},
               {"type", event.warns ? "Warning" : "Normal"},
               {"action", "Heal"},
               {"count", 1},
               {"firstTimestamp", time},
               {"lastTimestamp", time},
               {"source", std::move(source)},
               {"reportingComponent", event.component},
               {"reportingInstance", event.instance}};
  if (!event.related_kind.empty()) {
    text["related"] = {{"apiVersion", event.related_version},
                       {"kind", event.related_kind},
                       {"namespace", event.namespace_name},
                       {"name", event.related_name},
                       {"uid", event.related_uid}};
  }
  return text.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string pod_event_name(std::string pod_name, const std::string& suffix) {
  if (pod_name.size() > pod_name_bytes_max) pod_name.resize(pod_name_bytes_max);
  // A name's beginning must be a name again.
  while (!pod_name.empty() && (pod_name.back() == '.' || pod_name.back() == '-')) {
    pod_name.pop_back();
  }
  return std::move(pod_name) + "." + suffix;
}

}  // namespace remora::k8s
