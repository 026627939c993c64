// docs/configuration.md, generated from the schema.
#pragma once

#include <string>

namespace remora::config {

// Markdown: one table for each section, with key, type, default, range and meaning.
std::string render_reference();

}  // namespace remora::config
