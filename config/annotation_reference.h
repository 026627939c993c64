// docs/annotations.md, generated from the schema: what `remora inject --annotations` prints.
#pragma once

#include <string>

namespace remora::config {

// The whole document, Markdown.
std::string render_annotation_reference();

}  // namespace remora::config
