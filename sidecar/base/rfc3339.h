// Points in time as RFC 3339 section 5.6 writes them, in UTC: what Kubernetes' Time and MicroTime
// take.
#pragma once

#include <cstdint>
#include <string>

namespace remora {

std::string rfc3339(int64_t unix_s);         // "2026-11-25T12:20:53Z"
std::string rfc3339_micro(int64_t unix_us);  // "2026-11-25T12:20:53.000001Z"

}  // namespace remora
