#include "config/defaults.h"

#include <map>
#include <memory>
#include <utility>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "config/schema.h"

namespace remora::config {
namespace {

void fill_in(Message& message, const std::string& path, const Origins& origins);

// A section of this type in which nobody wrote anything. Reading the defaults takes long, and most
// sections are like this one.
const Message& standard_of(const Message& section) {
  thread_local std::map<const MessageDescriptor*, std::unique_ptr<Message>> known;
  std::unique_ptr<Message>& standard = known[section.GetDescriptor()];
  if (standard == nullptr) {
    std::unique_ptr<Message> made(section.New());
    fill_in(*made, "", Origins{});
    standard = std::move(made);
  }
  return *standard;
}

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
    Message& section = *reflection.MutableMessage(&message, &field);
    const bool is_untouched = section.ByteSizeLong() == 0 && !origins.is_any_below(path);
    return is_untouched ? section.CopyFrom(standard_of(section)) : fill_in(section, path, origins);
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

const Config& default_config() {
  static const Config standard = [] {
    Config config;
    fill_in(config, "", Origins{});
    return config;
  }();
  return standard;
}

}  // namespace remora::config
