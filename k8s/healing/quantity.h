// Kubernetes' quantities (apimachinery's resource.Quantity) as whole bytes. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace remora::k8s {

// "67108864", "64Mi", "1.5Gi", "500M", "1e9", "128974848000m", rounded up; nothing for anything
// else, what is negative, or what is beyond int64_t.
std::optional<int64_t> parse_quantity(std::string_view text);
// "96Mi" where that is exact, else the number of bytes.
std::string format_quantity(int64_t bytes);

}  // namespace remora::k8s
