// The little HTTP/1.1 that the benchmark programs need: where a head ends, its Content-Length and
// its status. It reads only what our own programs and the proxies under test send.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace remora::bench {

// Bytes up to and with the empty line, or 0 while the head is incomplete.
inline size_t head_size(std::string_view bytes) {
  const size_t end = bytes.find("\r\n\r\n");
  return end == std::string_view::npos ? 0 : end + 4;
}

inline char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

inline bool starts_with_ignoring_case(std::string_view text, std::string_view lower_prefix) {
  if (text.size() < lower_prefix.size()) return false;
  for (size_t i = 0; i < lower_prefix.size(); ++i) {
    if (lower(text[i]) != lower_prefix[i]) return false;
  }
  return true;
}

// The value of a field, surrounding spaces removed; the name in lower case with its colon.
inline std::optional<std::string_view> field(std::string_view head, std::string_view name_colon) {
  size_t line = head.find("\r\n");
  while (line != std::string_view::npos && line + 2 < head.size()) {
    const std::string_view rest = head.substr(line + 2);
    if (starts_with_ignoring_case(rest, name_colon)) {
      std::string_view value =
          rest.substr(name_colon.size(), rest.find("\r\n") - name_colon.size());
      while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
      while (!value.empty() && value.back() == ' ') value.remove_suffix(1);
      return value;
    }
    line = head.find("\r\n", line + 2);
  }
  return std::nullopt;
}

inline std::optional<uint64_t> to_number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

inline std::optional<uint64_t> content_length(std::string_view head) {
  const auto value = field(head, "content-length:");
  return value ? to_number(*value) : std::nullopt;
}

// 200 from "HTTP/1.1 200 OK"; 0 when there is none.
inline unsigned status_of(std::string_view head) {
  if (!head.starts_with("HTTP/1.") || head.size() < 12) return 0;
  return static_cast<unsigned>(to_number(head.substr(9, 3)).value_or(0));
}

}  // namespace remora::bench
