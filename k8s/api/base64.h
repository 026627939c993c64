// Base64 (RFC 4648 section 4), the form of bytes in Kubernetes' JSON.
#pragma once

#include <string>
#include <string_view>

#include "sidecar/base/error.h"

namespace remora::k8s {

std::string base64_encode(std::string_view bytes);
// kInvalidArgument for anything but whole, padded base64 without line ends.
Result<std::string> base64_decode(std::string_view text);

}  // namespace remora::k8s
