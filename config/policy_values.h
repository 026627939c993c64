// The settings of the pod's HealingPolicy as they are kept for the next start of the sidecar. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "config/annotations.h"

namespace remora::config {

std::string policy_values_text(const PolicyValues& values);
// Nothing for any other text.
std::optional<PolicyValues> parse_policy_values(std::string_view text);

}  // namespace remora::config
