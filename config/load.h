// YAML in, a complete Config out: every key checked against config/remora.proto, defaults filled
// in, and every problem reported at once, each with its place and its mend.
//
// The loader is pure but for load_file(), which reads one file. Untrusted text never crashes it,
// and costs are bounded by the limits below. It is meant to run at start and on reload, never on
// the data path: protobuf reflection is used here and in config/render.h only.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/problem.h"
#include "config/remora.pb.h"
#include "sidecar/base/clock.h"
#include "sidecar/base/error.h"

namespace remora::config {

inline constexpr size_t config_bytes_max = 1 << 20;
// Nesting of YAML collections.
inline constexpr size_t config_depth_max = 32;
// Nodes visited, each use of an alias counted anew: stops alias bombs.
inline constexpr size_t config_nodes_max = 100'000;
// After so many the rest is left out, and a last problem says so.
inline constexpr size_t config_problems_max = 100;

// A value from the command line or a pod's annotation. It wins over the file, and goes through the
// same checks.
struct Override {
  std::string key;                  // "agent.appPort"; must name a scalar or a list of scalars
  std::vector<std::string> values;  // as written in YAML; one for scalars, any number for lists
  std::string origin;               // "--app-port": named instead of file and line in problems
  // Only for a key that nobody wrote: neither the file nor an override before this one.
  bool is_default = false;
  // The one value is a YAML document (JSON too) for whatever key names, sections included.
  bool structured = false;
};

struct LoadResult {
  // Complete when ok(); otherwise what could be read, not to be run with.
  Config config;
  Problems problems;

  bool ok() const { return problems.empty(); }
};

// An empty text is a valid file: everything has a default.
LoadResult load_yaml(std::string_view text, std::string_view file_name,
                     std::span<const Override> overrides = {});

// kNotFound, kPermission, kIo when the file can't be read, kLimitExceeded past config_bytes_max;
// everything wrong inside it is in the result's problems.
Result<LoadResult> load_file(const std::string& path, std::span<const Override> overrides = {});

inline Duration to_duration(const google::protobuf::Duration& d) {
  return std::chrono::seconds(d.seconds()) + std::chrono::nanoseconds(d.nanos());
}

}  // namespace remora::config
