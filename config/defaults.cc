#include "config/defaults.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "config/schema.h"

namespace remora::config {
namespace {

// `standard`: the same section of the default configuration; null where it has none.
void fill_in(Message& message, const std::string& path, const Origins& origins,
             const Message* standard);

void fill_in_section(Message& message, const FieldDescriptor& field, const std::string& path,
                     const Origins& origins, const Message* standard) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  const bool is_absent = !reflection.HasField(message, &field);
  if (rules_of(field).only_if_present() && is_absent) return;
  const Message* part = nullptr;
  if (standard != nullptr && standard->GetReflection()->HasField(*standard, &field)) {
    part = &standard->GetReflection()->GetMessage(*standard, &field);
  }
  Message& section = *reflection.MutableMessage(&message, &field);
  // Most sections are like this one, and reading their defaults takes long.
  if (is_absent && part != nullptr && !origins.is_any_set(path)) return section.CopyFrom(*part);
  fill_in(section, path, origins, part);
}

void fill_in_field(Message& message, const FieldDescriptor& field, const std::string& path,
                   const Origins& origins, const Message* standard) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  const FieldForm form = field_form(field);
  if (form == FieldForm::kMap) return;
  if (form == FieldForm::kMessage && field.is_repeated()) {
    for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
      fill_in(*reflection.MutableRepeatedMessage(&message, &field, i),
              path + "[" + std::to_string(i) + "]", origins, nullptr);
    }
    return;
  }
  if (form == FieldForm::kMessage) return fill_in_section(message, field, path, origins, standard);
  const std::string& text = rules_of(field).default_();
  if (field.is_repeated() || text.empty() || origins.is_set(path)) return;
  // The schema's own defaults always parse; a unit test walks all of them.
  store_value(message, field, parse_value(field, text, false).value());
}

void fill_in(Message& message, const std::string& path, const Origins& origins,
             const Message* standard) {
  const MessageDescriptor& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    fill_in_field(message, field, path.empty() ? key_of(field) : path + "." + key_of(field),
                  origins, standard);
  }
}

}  // namespace

void fill_in_defaults(Message& message, const Origins& origins) {
  const bool is_whole = message.GetDescriptor() == Config::descriptor();
  fill_in(message, "", origins, is_whole ? &default_config() : nullptr);
}

const Config& default_config() {
  static const Config standard = [] {
    Config config;
    fill_in(config, "", Origins{}, nullptr);
    return config;
  }();
  return standard;
}

}  // namespace remora::config
