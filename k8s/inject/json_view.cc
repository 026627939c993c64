#include "k8s/inject/json_view.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace remora::k8s {

const Json* find(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(std::string(key));
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

const Json* find_object(const Json& object, std::string_view key) {
  const Json* value = find(object, key);
  return value != nullptr && value->is_object() ? value : nullptr;
}

const Json* find_array(const Json& object, std::string_view key) {
  const Json* value = find(object, key);
  return value != nullptr && value->is_array() ? value : nullptr;
}

std::string text_of(const Json& object, std::string_view key) {
  const Json* value = find(object, key);
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

std::optional<int64_t> integer_of(const Json& object, std::string_view key) {
  const Json* value = find(object, key);
  if (value == nullptr || !value->is_number_integer()) return std::nullopt;
  return value->get<int64_t>();
}

std::optional<bool> bool_of(const Json& object, std::string_view key) {
  const Json* value = find(object, key);
  if (value == nullptr || !value->is_boolean()) return std::nullopt;
  return value->get<bool>();
}

const Json* find_named(const Json* array, std::string_view key, std::string_view value) {
  if (array == nullptr) return nullptr;
  for (const Json& item : *array) {
    if (text_of(item, key) == value) return &item;
  }
  return nullptr;
}

std::string pointer_step(std::string_view key) {
  std::string out;
  for (const char c : key) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out += c;
    }
  }
  return out;
}

size_t depth_of(const Json& value, size_t limit) {
  if (!value.is_structured()) return 0;
  if (limit == 0) return 1;
  size_t deepest = 0;
  for (const Json& item : value) deepest = std::max(deepest, depth_of(item, limit - 1));
  return deepest + 1;
}

}  // namespace remora::k8s
