// Checks of PodSettings that need more than a type and a range.
#pragma once

#include <optional>
#include <string_view>

#include "config/origins.h"
#include "config/pod.pb.h"

namespace remora::config {

// Reports at the keys of settings.
void check_pod_settings(const PodSettings& settings, const Origins& origins, Reporter& reporter);

// "8000", "9000/http2"; nothing for anything else.
std::optional<InjectedPort> parse_app_port(std::string_view text);

}  // namespace remora::config
