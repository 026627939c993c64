// Members of a JSON object of our own notes, whatever somebody has made of them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace remora {

// Empty where there is none, or no text.
inline std::string text_at(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace remora
