#include "config/schema.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "sidecar/base/json_text.h"
#include "sidecar/base/log.h"

namespace remora::config {
namespace {

// Longer keys are not compared: nobody mistypes one by 60 characters.
constexpr size_t similar_key_bytes_max = 64;

// A schema that breaks its own rules is a bug of this binary; nothing sensible can go on.
[[noreturn]] void schema_is_broken(const FieldDescriptor& field, std::string_view why) {
  log_error("config_schema_broken", {{"field", field.full_name()}, {"why", why}});
  flush_log();
  std::abort();
}

bool is_duration(const FieldDescriptor& field) {
  return field.message_type() == google::protobuf::Duration::descriptor();
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = utf8_sequence_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

Parsed<Value> parse_bare(const FieldDescriptor& field, std::string_view text) {
  switch (field_form(field)) {
    case FieldForm::kBool:
      return parse_bool(text);
    case FieldForm::kInteger:
      return parse_integer(text);
    case FieldForm::kBytes:
      return parse_bytes(text);
    case FieldForm::kDuration:
      return parse_duration(text);
    case FieldForm::kString:
      return std::string(text);
    case FieldForm::kMessage:
    case FieldForm::kMap:
      break;
  }
  schema_is_broken(field, "has no scalar form");
}

Value parse_bound(const FieldDescriptor& field, const std::string& text) {
  Parsed<Value> bound = parse_bare(field, text);
  if (!bound) schema_is_broken(field, bound.error().message);
  return *std::move(bound);
}

Parsed<Value> check_range(const FieldDescriptor& field, Value value, std::string_view text) {
  const FieldRules& limits = rules_of(field);
  const bool too_small = !limits.min().empty() && value < parse_bound(field, limits.min());
  const bool too_large = !limits.max().empty() && value > parse_bound(field, limits.max());
  if (!too_small && !too_large) return value;
  Complaint complaint;
  complaint.message.append(text)
      .append(too_small ? " is below the minimum " : " is above the maximum ")
      .append(too_small ? limits.min() : limits.max());
  complaint.mend = "use " + range_text(field);
  return std::unexpected(std::move(complaint));
}

Parsed<Value> check_choice(const FieldDescriptor& field, Value value) {
  const auto& choices = rules_of(field).one_of();
  const std::string& text = std::get<std::string>(value);
  if (choices.empty() || std::ranges::find(choices, text) != choices.end()) return value;
  Complaint complaint{quote(text) + " is not a choice", "write "};
  for (int i = 0; i < choices.size(); ++i) {
    if (i > 0) complaint.mend += i + 1 == choices.size() ? " or " : ", ";
    complaint.mend += choices[i];
  }
  return std::unexpected(std::move(complaint));
}

// "app_port", "app-port" and "AppPort" all fold to "appport".
std::string fold(std::string_view key) {
  std::string folded;
  for (const char c : key) {
    if (c == '_' || c == '-') continue;
    folded += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return folded;
}

std::string find_key_under(const MessageDescriptor& type, std::string_view folded,
                           const std::string& path) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    std::string here = path.empty() ? key_of(field) : path + "." + key_of(field);
    if (fold(key_of(field)) == folded) return here;
    // Items of lists are left out: "healing.ladders.fault" is no path that one could write.
    if (field_form(field) != FieldForm::kMessage || field.is_repeated()) continue;
    std::string found = find_key_under(*field.message_type(), folded, here);
    if (!found.empty()) return found;
  }
  return {};
}

}  // namespace

FieldForm field_form(const FieldDescriptor& field) {
  if (field.is_map()) return FieldForm::kMap;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return FieldForm::kBool;
    case FieldDescriptor::CPPTYPE_INT32:
    case FieldDescriptor::CPPTYPE_INT64:
      return rules_of(field).bytes() ? FieldForm::kBytes : FieldForm::kInteger;
    case FieldDescriptor::CPPTYPE_STRING:
      return FieldForm::kString;
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return is_duration(field) ? FieldForm::kDuration : FieldForm::kMessage;
    default:
      schema_is_broken(field, "has a type that configuration does not use");
  }
}

const FieldRules& rules_of(const FieldDescriptor& field) {
  return field.options().GetExtension(rules);
}

Parsed<Value> parse_value(const FieldDescriptor& field, std::string_view text, bool from_quotes) {
  const FieldForm form = field_form(field);
  if (from_quotes && (form == FieldForm::kBool || form == FieldForm::kInteger)) {
    return std::unexpected(Complaint{
        quote(text) + " is text, not " + (form == FieldForm::kBool ? "true or false" : "a number"),
        "remove the quotes"});
  }
  Parsed<Value> value = parse_bare(field, text);
  if (!value) return value;
  if (form == FieldForm::kString) {
    if (text.find('\0') != std::string_view::npos) {
      return std::unexpected(Complaint{"holds a NUL character", "remove it"});
    }
    // Possible through an escape ("\ud800") or an option of the command line.
    if (!is_utf8(text)) return std::unexpected(Complaint{"is not UTF-8", "write it in UTF-8"});
    return check_choice(field, *std::move(value));
  }
  return check_range(field, *std::move(value), text);
}

void store_value(Message& message, const FieldDescriptor& field, const Value& value) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  const bool append = field.is_repeated();
  switch (field_form(field)) {
    case FieldForm::kBool:
      if (append) schema_is_broken(field, "is a list of booleans");
      return reflection.SetBool(&message, &field, std::get<bool>(value));
    case FieldForm::kInteger:
    case FieldForm::kBytes: {
      const int64_t n = std::get<int64_t>(value);
      if (field.cpp_type() == FieldDescriptor::CPPTYPE_INT64) {
        if (append) schema_is_broken(field, "is a list of 64-bit numbers");
        return reflection.SetInt64(&message, &field, n);
      }
      // Every 32-bit field has bounds (a unit test checks it), so n fits.
      if (append) return reflection.AddInt32(&message, &field, static_cast<int32_t>(n));
      return reflection.SetInt32(&message, &field, static_cast<int32_t>(n));
    }
    case FieldForm::kString:
      if (append) return reflection.AddString(&message, &field, std::get<std::string>(value));
      return reflection.SetString(&message, &field, std::get<std::string>(value));
    case FieldForm::kDuration: {
      if (append) schema_is_broken(field, "is a list of durations");
      auto& duration =
          static_cast<google::protobuf::Duration&>(*reflection.MutableMessage(&message, &field));
      const int64_t ns = std::get<Duration>(value).count();
      duration.set_seconds(ns / 1'000'000'000);
      duration.set_nanos(static_cast<int32_t>(ns % 1'000'000'000));
      return;
    }
    case FieldForm::kMessage:
    case FieldForm::kMap:
      schema_is_broken(field, "is no scalar");
  }
}

std::string value_text(const Message& message, const FieldDescriptor& field, int index) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  switch (field_form(field)) {
    case FieldForm::kBool:
      return reflection.GetBool(message, &field) ? "true" : "false";
    case FieldForm::kInteger:
    case FieldForm::kBytes: {
      const int64_t n = index >= 0 ? reflection.GetRepeatedInt32(message, &field, index)
                        : field.cpp_type() == FieldDescriptor::CPPTYPE_INT64
                            ? reflection.GetInt64(message, &field)
                            : reflection.GetInt32(message, &field);
      return field_form(field) == FieldForm::kBytes ? format_bytes(n) : std::to_string(n);
    }
    case FieldForm::kString:
      return index < 0 ? reflection.GetString(message, &field)
                       : reflection.GetRepeatedString(message, &field, index);
    case FieldForm::kDuration: {
      const auto& duration =
          static_cast<const google::protobuf::Duration&>(reflection.GetMessage(message, &field));
      return format_duration(std::chrono::seconds(duration.seconds()) +
                             std::chrono::nanoseconds(duration.nanos()));
    }
    case FieldForm::kMessage:
    case FieldForm::kMap:
      break;
  }
  schema_is_broken(field, "has no scalar form");
}

std::string range_text(const FieldDescriptor& field) {
  const FieldRules& limits = rules_of(field);
  if (!limits.min().empty() && !limits.max().empty()) return limits.min() + " to " + limits.max();
  if (!limits.min().empty()) return "at least " + limits.min();
  if (!limits.max().empty()) return "at most " + limits.max();
  return {};
}

std::string expected_text(const FieldDescriptor& field) {
  const bool list = field.is_repeated();
  switch (field_form(field)) {
    case FieldForm::kMessage:
      return list ? "a list of mappings" : "a mapping";
    case FieldForm::kMap:
      return "a mapping of names to texts";
    case FieldForm::kDuration:
      return "a duration";
    case FieldForm::kBytes:
      return "a size in bytes";
    case FieldForm::kInteger:
      return list ? "a list of whole numbers" : "a whole number";
    case FieldForm::kBool:
      return "true or false";
    case FieldForm::kString:
      return list ? "a list of texts" : "a text";
  }
  schema_is_broken(field, "has no form");
}

std::string similar_key(const MessageDescriptor& type, std::string_view key) {
  if (key.size() > similar_key_bytes_max) return {};
  const std::string folded = fold(key);
  std::string best;
  // A third of the letters may be wrong, and never more than three.
  size_t best_distance = std::min<size_t>(3, std::max<size_t>(1, folded.size() / 3)) + 1;
  for (int i = 0; i < type.field_count(); ++i) {
    const std::string& candidate = key_of(*type.field(i));
    const size_t distance = edit_distance(folded, fold(candidate));
    if (distance >= best_distance) continue;
    best_distance = distance;
    best = candidate;
  }
  return best;
}

std::string find_key_anywhere(std::string_view key) {
  if (key.size() > similar_key_bytes_max) return {};
  return find_key_under(*Config::descriptor(), fold(key), {});
}

}  // namespace remora::config
