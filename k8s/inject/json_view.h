// Reads of JSON objects that never throw: a member that is absent, null or of another type is
// "nothing".
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace remora::k8s {

using Json = nlohmann::ordered_json;

// Null when object is no object, or has no such member, or a null one.
const Json* find(const Json& object, std::string_view key);
const Json* find_object(const Json& object, std::string_view key);
const Json* find_array(const Json& object, std::string_view key);
std::string text_of(const Json& object, std::string_view key);
std::optional<int64_t> integer_of(const Json& object, std::string_view key);
std::optional<bool> bool_of(const Json& object, std::string_view key);
// The item of the array whose member `key` is this text; null when there is none.
const Json* find_named(const Json* array, std::string_view key, std::string_view value);

// A key as one step of a JSON pointer (RFC 6901 section 3).
std::string pointer_step(std::string_view key);

// Levels of nesting; stops counting at limit + 1.
size_t depth_of(const Json& value, size_t limit);

}  // namespace remora::k8s
