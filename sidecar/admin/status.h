// GET /status as JSON, and the same as a summary for people. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "sidecar/admin/source.h"

namespace remora {

std::string status_to_json(const AdminStatus& status);

struct StatusSummary {
  std::string text;  // lines, each with its newline
  bool ready = false;
};
// From the JSON of any version of Remora: what is missing is left out. kCorrupt when it is no
// status. now_unix_ns: to say how long ago things were.
Result<StatusSummary> summarise_status(std::string_view json, int64_t now_unix_ns);

// "850ms", "12s", "3m20s", "5h10m", "3d2h".
std::string short_duration(double seconds);

}  // namespace remora
