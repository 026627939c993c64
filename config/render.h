// The effective configuration as text: what /config shows, and what a user can edit into a file.
#pragma once

#include <string>

#include "config/remora.pb.h"

namespace remora::config {

struct RenderOptions {
  // Values that may be secrets (environment, probe headers) become "<redacted>". Off only where the
  // text stays in this process.
  bool redact = true;
};

// Keys in the order of the schema; durations and sizes in their shortest form. What is absent is
// left out. Loads back into the same Config when nothing was redacted.
std::string render_yaml(const Config& config, const RenderOptions& options = {});
// The same as one JSON object, indented.
std::string render_json(const Config& config, const RenderOptions& options = {});

}  // namespace remora::config
