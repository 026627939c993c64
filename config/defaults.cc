#include "config/defaults.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "config/schema.h"

namespace remora::config {
namespace {

void fill_in(Message& message, const std::string& path, const Origins& origins);

void fill_in_field(Message& message, const FieldDescriptor& field, const std::string& path,
                   const Origins& origins) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  const FieldForm form = field_form(field);
  if (form == FieldForm::kMap) return;
  if (form == FieldForm::kMessage && field.is_repeated()) {
    for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
      fill_in(*reflection.MutableRepeatedMessage(&message, &field, i),
              path + "[" + std::to_string(i) + "]", origins);
    }
    return;
  }
  if (form == FieldForm::kMessage) {
    if (rules_of(field).only_if_present() && !reflection.HasField(message, &field)) return;
    return fill_in(*reflection.MutableMessage(&message, &field), path, origins);
  }
  const std::string& text = rules_of(field).default_();
  if (field.is_repeated() || text.empty() || origins.is_set(path)) return;
  // The schema's own defaults always parse; a unit test walks all of them.
  store_value(message, field, parse_value(field, text, false).value());
}

void fill_in(Message& message, const std::string& path, const Origins& origins) {
  const MessageDescriptor& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    fill_in_field(message, field, path.empty() ? key_of(field) : path + "." + key_of(field),
                  origins);
  }
}

}  // namespace

void fill_in_defaults(Message& message, const Origins& origins) { fill_in(message, "", origins); }

}  // namespace remora::config
