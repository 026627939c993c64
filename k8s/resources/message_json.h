// Objects of k8s/resources/resources.proto from and to the JSON of the API server, by the rules of
// their fields. Pure; no JSON crashes it.
#pragma once

#include <google/protobuf/message.h>

#include "k8s/inject/json_view.h"
#include "sidecar/base/error.h"

namespace remora::k8s {

// Fields that are absent get their defaults; members that nobody knows, of a later version, are
// left out; so are `settings` (k8s/resources/settings.h). kInvalidArgument names the first member
// that breaks the rules of its field.
Result<void> read_message(const Json& json, google::protobuf::Message& message);

// What is set: no empty texts and lists, and no zeros.
Json write_message(const google::protobuf::Message& message);

}  // namespace remora::k8s
