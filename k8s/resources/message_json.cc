#include "k8s/resources/message_json.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "config/schema.h"
#include "k8s/resources/resources.pb.h"

namespace remora::k8s {
namespace {

using config::FieldForm;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

std::unexpected<Error> bad(const FieldDescriptor& field, const std::string& why) {
  return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig,
                    config::key_of(field) + ": " + why);
}

std::unexpected<Error> inside(const FieldDescriptor& field, Error error) {
  error.message.insert(0, config::key_of(field) + ".");
  return std::unexpected(std::move(error));
}

Result<void> read_scalar(const Json& json, const FieldDescriptor& field, Message& message) {
  const FieldForm form = config::field_form(field);
  const bool fits = form == FieldForm::kBool      ? json.is_boolean()
                    : form == FieldForm::kInteger ? json.is_number_integer()
                    : form == FieldForm::kBytes   ? json.is_number_integer() || json.is_string()
                                                  : json.is_string();
  if (!fits) return bad(field, "is not " + config::expected_text(field));
  const std::string text = json.is_string() ? json.get<std::string>() : json.dump();
  const auto value = config::parse_value(field, text, false);
  if (!value) return bad(field, value.error().message);
  config::store_value(message, field, *value);
  return {};
}

Result<void> read_map(const Json& json, const FieldDescriptor& field, Message& message) {
  if (!json.is_object()) return bad(field, "is not " + config::expected_text(field));
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) return bad(field, "is not " + config::expected_text(field));
    Message& entry = *message.GetReflection()->AddMessage(&message, &field);
    const Reflection& inner = *entry.GetReflection();
    inner.SetString(&entry, entry.GetDescriptor()->FindFieldByNumber(1), key);
    inner.SetString(&entry, entry.GetDescriptor()->FindFieldByNumber(2), value.get<std::string>());
  }
  return {};
}

Result<void> read_list(const Json& json, const FieldDescriptor& field, Message& message) {
  if (!json.is_array()) return bad(field, "is not " + config::expected_text(field));
  for (const Json& item : json) {
    if (config::field_form(field) != FieldForm::kMessage) {
      if (Result<void> read = read_scalar(item, field, message); !read) return read;
      continue;
    }
    Message& added = *message.GetReflection()->AddMessage(&message, &field);
    if (Result<void> read = read_message(item, added); !read) return inside(field, read.error());
  }
  return {};
}

Result<void> read_default(const FieldDescriptor& field, Message& message) {
  const config::FieldRules& rules = config::rules_of(field);
  if (rules.required()) return bad(field, "is missing");
  if (field.is_repeated() || rules.only_if_present()) return {};
  if (config::field_form(field) == FieldForm::kMessage) {
    return read_message(Json::object(), *message.GetReflection()->MutableMessage(&message, &field));
  }
  if (rules.default_().empty()) return {};
  const auto value = config::parse_value(field, rules.default_(), false);
  if (value) config::store_value(message, field, *value);
  return {};
}

Result<void> read_field(const Json& json, const FieldDescriptor& field, Message& message) {
  const FieldForm form = config::field_form(field);
  if (form == FieldForm::kMap) return read_map(json, field, message);
  if (field.is_repeated()) return read_list(json, field, message);
  if (form != FieldForm::kMessage) return read_scalar(json, field, message);
  Result<void> read =
      read_message(json, *message.GetReflection()->MutableMessage(&message, &field));
  if (!read) return inside(field, read.error());
  return {};
}

Json write_item(const Message& message, const FieldDescriptor& field, int index) {
  const Reflection& reflection = *message.GetReflection();
  switch (config::field_form(field)) {
    case FieldForm::kMessage:
      return write_message(index < 0 ? reflection.GetMessage(message, &field)
                                     : reflection.GetRepeatedMessage(message, &field, index));
    case FieldForm::kBool:
      return reflection.GetBool(message, &field);
    case FieldForm::kInteger:
      return field.cpp_type() == FieldDescriptor::CPPTYPE_INT64
                 ? Json(reflection.GetInt64(message, &field))
                 : Json(reflection.GetInt32(message, &field));
    default:
      return config::value_text(message, field, index);
  }
}

Json write_map(const Message& message, const FieldDescriptor& field) {
  Json map = Json::object();
  const Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    const Message& entry = reflection.GetRepeatedMessage(message, &field, i);
    const Reflection& inner = *entry.GetReflection();
    const auto text = [&](int number) {
      return inner.GetString(entry, entry.GetDescriptor()->FindFieldByNumber(number));
    };
    map[text(1)] = text(2);
  }
  return map;
}

}  // namespace

Result<void> read_message(const Json& json, Message& message) {
  if (!json.is_object()) {
    return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig, "is no object");
  }
  const auto& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (field.options().GetExtension(v1alpha1::settings)) continue;
    const auto member = json.find(config::key_of(field));
    const bool absent = member == json.end() || member->is_null();
    Result<void> read = absent ? read_default(field, message) : read_field(*member, field, message);
    if (!read) return read;
    // Nothing is written of a value that is its type's empty one: it would be missing the next
    // time.
    const Reflection& reflection = *message.GetReflection();
    const bool is_there = field.is_repeated() ? reflection.FieldSize(message, &field) > 0
                                              : reflection.HasField(message, &field);
    if (config::rules_of(field).required() && !is_there) return bad(field, "is empty");
  }
  return {};
}

Json write_message(const Message& message) {
  Json json = Json::object();
  const auto& type = *message.GetDescriptor();
  const Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (field.is_map()) {
      if (Json map = write_map(message, field); !map.empty()) {
        json[config::key_of(field)] = std::move(map);
      }
    } else if (field.is_repeated()) {
      for (int at = 0; at < reflection.FieldSize(message, &field); ++at) {
        json[config::key_of(field)].push_back(write_item(message, field, at));
      }
    } else if (reflection.HasField(message, &field)) {
      json[config::key_of(field)] = write_item(message, field, -1);
    }
  }
  return json;
}

}  // namespace remora::k8s
