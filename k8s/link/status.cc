#include "k8s/link/status.h"

#include <array>
#include <charconv>
#include <utility>

namespace remora::link {
namespace {

constexpr std::string_view hex_digits = "0123456789ABCDEF";

int hex_value(char c) {
  if (c >= 'a' && c <= 'f') c = static_cast<char>(c - 'a' + 'A');
  const size_t at = hex_digits.find(c);
  return at == std::string_view::npos ? -1 : static_cast<int>(at);
}

}  // namespace

std::string status_name(int code) {
  constexpr std::array<std::pair<StatusCode, std::string_view>, 7> names = {
      {{StatusCode::kOk, "OK"},
       {StatusCode::kInvalidArgument, "INVALID_ARGUMENT"},
       {StatusCode::kPermissionDenied, "PERMISSION_DENIED"},
       {StatusCode::kResourceExhausted, "RESOURCE_EXHAUSTED"},
       {StatusCode::kUnimplemented, "UNIMPLEMENTED"},
       {StatusCode::kUnavailable, "UNAVAILABLE"},
       {StatusCode::kUnauthenticated, "UNAUTHENTICATED"}}};
  for (const auto& [known, name] : names) {
    if (static_cast<int>(known) == code) return std::string(name);
  }
  return "status " + std::to_string(code);
}

std::string encoded_message(std::string_view message) {
  std::string text;
  for (const char c : message) {
    if (c >= ' ' && c <= '~' && c != '%') {
      text += c;
      continue;
    }
    const auto byte = static_cast<uint8_t>(c);
    text += '%';
    text += hex_digits[byte >> 4];
    text += hex_digits[byte & 15];
  }
  return text;
}

std::string decoded_message(std::string_view text) {
  std::string message;
  for (size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
    const int low = high < 0 ? -1 : hex_value(text[i + 2]);
    if (low < 0) {
      message += text[i];
    } else {
      message += static_cast<char>(high << 4 | low);
      i += 2;
    }
  }
  return message;
}

std::optional<int> status_code_of(std::string_view text) {
  int code = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), code);
  const bool whole = problem == std::errc() && end == text.data() + text.size();
  return whole && text.size() <= 3 && code >= 0 ? std::optional(code) : std::nullopt;
}

}  // namespace remora::link
