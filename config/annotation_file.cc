#include "config/annotation_file.h"

#include <cstdint>
#include <optional>
#include <utility>

#include "config/read_file.h"

namespace remora::config {
namespace {

constexpr uint32_t code_point_max = 0x10FFFF;

void append_utf8(std::string& out, uint32_t c) {
  const auto byte = [&out](uint32_t value) { out += static_cast<char>(value); };
  if (c < 0x80) {
    byte(c);
  } else if (c < 0x800) {
    byte(0xC0 | c >> 6);
    byte(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    byte(0xE0 | c >> 12);
    byte(0x80 | (c >> 6 & 0x3F));
    byte(0x80 | (c & 0x3F));
  } else {
    byte(0xF0 | c >> 18);
    byte(0x80 | (c >> 12 & 0x3F));
    byte(0x80 | (c >> 6 & 0x3F));
    byte(0x80 | (c & 0x3F));
  }
}

std::optional<uint32_t> take_hex(std::string_view& text, size_t digits) {
  if (text.size() < digits) return std::nullopt;
  uint32_t value = 0;
  for (const char c : text.substr(0, digits)) {
    uint32_t digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<uint32_t>(c - '0');
    } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
      digit = static_cast<uint32_t>((c | 0x20) - 'a' + 10);
    } else {
      return std::nullopt;
    }
    value = value << 4 | digit;
  }
  text.remove_prefix(digits);
  return value;
}

// After the backslash; text begins with the letter.
bool take_escape(std::string_view& text, std::string& out) {
  static constexpr std::string_view letters = "abfnrtv\\\"'";
  static constexpr std::string_view meanings = "\a\b\f\n\r\t\v\\\"'";
  if (text.empty()) return false;
  const char letter = text.front();
  text.remove_prefix(1);
  if (const size_t i = letters.find(letter); i != letters.npos) {
    out += meanings[i];
    return true;
  }
  const size_t digits = letter == 'x' ? 2 : letter == 'u' ? 4 : letter == 'U' ? 8 : 0;
  if (digits == 0) return false;
  const std::optional<uint32_t> value = take_hex(text, digits);
  if (!value) return false;
  if (letter == 'x') {
    out += static_cast<char>(*value);  // a byte that is no UTF-8
    return true;
  }
  if (*value > code_point_max || (*value >= 0xD800 && *value <= 0xDFFF)) return false;
  append_utf8(out, *value);
  return true;
}

// Everything after the opening quote up to the end of the line.
std::optional<std::string> unquote(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const char c = text.front();
    text.remove_prefix(1);
    if (c == '"') return text.empty() ? std::optional(std::move(out)) : std::nullopt;
    if (c != '\\') {
      out += c;
    } else if (!take_escape(text, out)) {
      return std::nullopt;
    }
  }
  return std::nullopt;
}

}  // namespace

Result<Annotations> parse_annotation_file(std::string_view text) {
  if (text.size() > annotation_file_bytes_max) {
    return make_error(ErrorCode::kLimitExceeded, ErrorSource::kConfig,
                      "annotations: larger than " + std::to_string(annotation_file_bytes_max) +
                          " bytes, which the kubelet never writes; remove some");
  }
  Annotations annotations;
  for (int line = 1; !text.empty(); ++line) {
    const size_t end = text.find('\n');
    const std::string_view whole = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    if (whole.empty()) continue;
    const size_t equals = whole.find("=\"");
    std::optional<std::string> value;
    if (equals != 0 && equals != whole.npos) value = unquote(whole.substr(equals + 2));
    if (!value) {
      return make_error(ErrorCode::kCorrupt, ErrorSource::kConfig,
                        "annotations: line " + std::to_string(line) +
                            " is not KEY=\"VALUE\"; expected the file of a downwardAPI volume");
    }
    annotations.insert_or_assign(std::string(whole.substr(0, equals)), *std::move(value));
  }
  return annotations;
}

Result<Annotations> load_annotation_file(const std::string& path) {
  Result<std::string> text = read_file(path, annotation_file_bytes_max);
  if (!text) return std::unexpected(std::move(text.error()));
  Result<Annotations> annotations = parse_annotation_file(*text);
  if (!annotations) return std::unexpected(std::move(annotations.error()).with_context(path));
  return annotations;
}

}  // namespace remora::config
