// What the codecs need to know about single fields: character classes, list members, and which
// fields belong to the connection and not to the message (RFC 9110 section 7.6.1). Pure.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "sidecar/http/message.h"

namespace remora::http {

namespace char_class {
inline constexpr uint8_t kToken = 1;   // RFC 9110 section 5.6.2: names and methods
inline constexpr uint8_t kTarget = 2;  // a byte of a request target: visible ASCII but '#'
inline constexpr uint8_t kHost = 4;    // a byte of uri-host [":" port] (RFC 3986 section 3.2.2)
inline constexpr uint8_t kText = 8;    // a byte of a field value or reason phrase
}  // namespace char_class

extern const std::array<uint8_t, 256> char_classes;

inline bool all_of_class(std::string_view text, uint8_t wanted) {
  for (const char c : text) {
    if ((char_classes[static_cast<uint8_t>(c)] & wanted) == 0) return false;
  }
  return true;
}

inline char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; }

std::string_view trim_ows(std::string_view text);

// Takes the next member off a comma-separated list, without the white space around it; empty
// members are skipped. Nothing when the list is used up.
std::optional<std::string_view> next_list_member(std::string_view& list);
// Whether a list has the member, compared without case; a member's parameters are not looked at.
bool list_contains(std::string_view list, std::string_view member);

// Digits only, no sign, no list, at most INT64_MAX (RFC 9110 section 8.6).
std::optional<uint64_t> parse_content_length(std::string_view value);

enum class FieldKind : uint8_t {
  kOrdinary,
  kHost,
  kContentLength,
  kTransferEncoding,
  kConnection,
  kUpgrade,
  kTe,
  kOtherConnectionLevel,  // Keep-Alive, Proxy-Connection, HTTP2-Settings
};
FieldKind classify_field(std::string_view name);

// Removes the fields that a Connection field nominates.
void remove_nominated(HeaderMap& headers, std::string_view connection_value);

// Host, or an authority: only the characters of host and port, no user information.
bool is_valid_authority(std::string_view authority);

// A field that can be written without breaking out of its line: a token name and a value without
// control characters other than tab.
bool is_writable_field(std::string_view name, std::string_view value);
bool is_writable_text(std::string_view text);

}  // namespace remora::http
