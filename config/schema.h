// The schema (config/remora.proto) as the loader, the renderer and the reference need it: rules of
// a field, values to and from text. The only place where values meet protobuf reflection.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "config/remora.pb.h"
#include "config/scalar.h"
#include "sidecar/base/clock.h"

namespace remora::config {

using FieldDescriptor = google::protobuf::FieldDescriptor;
using MessageDescriptor = google::protobuf::Descriptor;
using Message = google::protobuf::Message;

enum class FieldForm { kMessage, kMap, kDuration, kBytes, kInteger, kBool, kString };

// Durations are kDuration, not messages. Lists have the form of their items. Aborts for a field of
// a type that configuration does not use: a mistake in the schema.
FieldForm field_form(const FieldDescriptor& field);
const FieldRules& rules_of(const FieldDescriptor& field);
// The key as written in YAML.
inline const std::string& key_of(const FieldDescriptor& field) { return field.json_name(); }

using Value = std::variant<bool, int64_t, std::string, Duration>;

// One scalar (or one item of a list of scalars): type, range and choice checked. from_quotes: the
// text stood in quotes, which numbers and booleans must not.
Parsed<Value> parse_value(const FieldDescriptor& field, std::string_view text, bool from_quotes);
// Sets a singular field, or appends to a list.
void store_value(Message& message, const FieldDescriptor& field, const Value& value);
// A singular scalar, or item `index` of a list, as parse_value reads it.
std::string value_text(const Message& message, const FieldDescriptor& field, int index = -1);

// "1 to 65535", "at least 1", or empty.
std::string range_text(const FieldDescriptor& field);
// "a duration", "a list of texts", "a mapping": for messages about wrong types.
std::string expected_text(const FieldDescriptor& field);

// The key among `type`'s that was probably meant, or empty.
std::string similar_key(const MessageDescriptor& type, std::string_view key);
// Where a key of that exact name (or that name in another spelling) exists in the whole schema,
// "agent.appPort"; empty when nowhere.
std::string find_key_anywhere(std::string_view key);

}  // namespace remora::config
