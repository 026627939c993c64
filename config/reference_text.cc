#include "config/reference_text.h"

#include <google/protobuf/descriptor.h>

namespace remora::config {

std::string table_cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

std::string code_text(std::string_view text) {
  return text.empty() ? std::string() : "`" + std::string(text) + "`";
}

std::string type_text(const FieldDescriptor& field) {
  switch (field_form(field)) {
    case FieldForm::kMessage:
      if (field.is_repeated()) return "list of sections";
      return rules_of(field).only_if_present() ? "section if present" : "section";
    case FieldForm::kMap:
      return "mapping of texts";
    case FieldForm::kDuration:
      return "duration";
    case FieldForm::kBytes:
      return "size";
    case FieldForm::kInteger:
      return field.is_repeated() ? "list of integers" : "integer";
    case FieldForm::kBool:
      return "boolean";
    case FieldForm::kString:
      return field.is_repeated() ? "list of texts" : "text";
  }
  return {};
}

std::string default_text(const FieldDescriptor& field) {
  const FieldRules& field_rules = rules_of(field);
  if (field_rules.required()) return "*required*";
  return code_text(field_rules.default_());
}

std::string allowed_text(const FieldDescriptor& field) {
  std::string out = range_text(field);
  for (const std::string& choice : rules_of(field).one_of()) {
    out.append(out.empty() ? "" : ", ").append(code_text(choice));
  }
  return out;
}

}  // namespace remora::config
