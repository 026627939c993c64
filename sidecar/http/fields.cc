#include "sidecar/http/fields.h"

#include <charconv>
#include <cstring>
#include <limits>

namespace remora::http {
namespace {

constexpr bool is_alnum(unsigned c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

constexpr bool is_one_of(unsigned c, std::string_view set) {
  return c < 128 && set.find(static_cast<char>(c)) != std::string_view::npos;
}

constexpr std::array<uint8_t, 256> make_char_classes() {
  std::array<uint8_t, 256> classes{};
  for (unsigned c = 0; c < 256; ++c) {
    uint8_t& entry = classes[c];
    if (is_alnum(c) || is_one_of(c, "!#$%&'*+-.^_`|~")) entry |= char_class::kToken;
    if (c > 0x20 && c < 0x7f && c != '#') entry |= char_class::kTarget;
    if (is_alnum(c) || is_one_of(c, "-._~%!$&'()*+,;=:[]")) entry |= char_class::kHost;
    if (c == '\t' || (c >= 0x20 && c != 0x7f)) entry |= char_class::kText;
  }
  return classes;
}

}  // namespace

constinit const std::array<uint8_t, 256> char_classes = make_char_classes();

std::string_view trim_ows(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::optional<std::string_view> next_list_member(std::string_view& list) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    const std::string_view member = trim_ows(list.substr(0, comma));
    list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
    if (!member.empty()) return member;
  }
  return std::nullopt;
}

bool list_contains(std::string_view list, std::string_view member) {
  while (const auto next = next_list_member(list)) {
    if (iequals(trim_ows(next->substr(0, next->find(';'))), member)) return true;
  }
  return false;
}

std::optional<uint64_t> parse_content_length(std::string_view value) {
  uint64_t length = 0;
  const char* end = value.data() + value.size();
  const auto [rest, error] = std::from_chars(value.data(), end, length);
  if (error != std::errc{} || rest != end) return std::nullopt;
  if (length > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
  return length;
}

FieldKind classify_field(std::string_view name) {
  switch (name.size()) {
    case 2:
      return iequals(name, "te") ? FieldKind::kTe : FieldKind::kOrdinary;
    case 4:
      return iequals(name, "host") ? FieldKind::kHost : FieldKind::kOrdinary;
    case 7:
      return iequals(name, "upgrade") ? FieldKind::kUpgrade : FieldKind::kOrdinary;
    case 10:
      if (iequals(name, "connection")) return FieldKind::kConnection;
      return iequals(name, "keep-alive") ? FieldKind::kOtherConnectionLevel : FieldKind::kOrdinary;
    case 14:
      if (iequals(name, "content-length")) return FieldKind::kContentLength;
      return iequals(name, "http2-settings") ? FieldKind::kOtherConnectionLevel
                                             : FieldKind::kOrdinary;
    case 16:
      return iequals(name, "proxy-connection") ? FieldKind::kOtherConnectionLevel
                                               : FieldKind::kOrdinary;
    case 17:
      return iequals(name, "transfer-encoding") ? FieldKind::kTransferEncoding
                                                : FieldKind::kOrdinary;
    default:
      return FieldKind::kOrdinary;
  }
}

void remove_nominated(HeaderMap& headers, std::string_view connection_value) {
  while (const auto member = next_list_member(connection_value)) {
    if (iequals(*member, "close") || iequals(*member, "keep-alive")) continue;
    // TE and Upgrade have been dealt with as themselves.
    if (classify_field(*member) != FieldKind::kOrdinary) continue;
    headers.remove(*member);
  }
}

bool is_valid_authority(std::string_view authority) {
  return all_of_class(authority, char_class::kHost);
}

bool is_writable_text(std::string_view text) {
  constexpr uint64_t kOnes = 0x0101010101010101;
  constexpr uint64_t kHighBits = 0x8080808080808080;
  while (text.size() >= sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, text.data(), sizeof word);
    // A high bit stays set for each byte below 0x20 (and may be set for a neighbour: checked next).
    const uint64_t below_space = (word - kOnes * 0x20) & ~word & kHighBits;
    if (below_space != 0 && !all_of_class(text.substr(0, sizeof word), char_class::kText)) {
      return false;
    }
    text.remove_prefix(sizeof word);
  }
  return all_of_class(text, char_class::kText);
}

bool is_writable_field(std::string_view name, std::string_view value) {
  return !name.empty() && all_of_class(name, char_class::kToken) && is_writable_text(value);
}

}  // namespace remora::http
