// Cells of the generated tables (docs/configuration.md and docs/annotations.md).
#pragma once

#include <string>
#include <string_view>

#include "config/schema.h"

namespace remora::config {

std::string table_cell(std::string_view text);
// As code; empty for an empty text.
std::string code_text(std::string_view text);
// "duration", "list of texts", "section if present".
std::string type_text(const FieldDescriptor& field);
std::string default_text(const FieldDescriptor& field);
// The range or the choices.
std::string allowed_text(const FieldDescriptor& field);

}  // namespace remora::config
