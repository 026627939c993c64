#include "k8s/healing/quantity.h"

#include <array>
#include <charconv>
#include <cmath>
#include <utility>

namespace remora::k8s {
namespace {

constexpr size_t digits_max = 30;
constexpr size_t exponent_characters_max = 4;
constexpr int exponent_max = 18;

constexpr std::array<std::pair<std::string_view, double>, 14> suffixes = {{
    {"", 1},
    {"m", 1e-3},
    {"k", 1e3},
    {"M", 1e6},
    {"G", 1e9},
    {"T", 1e12},
    {"P", 1e15},
    {"E", 1e18},
    {"Ki", 0x1p10},
    {"Mi", 0x1p20},
    {"Gi", 0x1p30},
    {"Ti", 0x1p40},
    {"Pi", 0x1p50},
    {"Ei", 0x1p60},
}};

std::optional<double> factor_of(std::string_view suffix) {
  for (const auto& [name, factor] : suffixes) {
    if (name == suffix) return factor;
  }
  const bool is_exponent = suffix.size() > 1 && suffix.size() <= exponent_characters_max &&
                           (suffix[0] == 'e' || suffix[0] == 'E');
  if (!is_exponent) return std::nullopt;
  suffix.remove_prefix(suffix[1] == '+' ? 2 : 1);
  int exponent = 0;
  const auto [end, error] = std::from_chars(suffix.begin(), suffix.end(), exponent);
  if (error != std::errc() || end != suffix.end()) return std::nullopt;
  if (exponent > exponent_max || exponent < -exponent_max) return std::nullopt;
  return std::pow(10.0, exponent);
}

}  // namespace

std::optional<int64_t> parse_quantity(std::string_view text) {
  const size_t digits = text.find_first_not_of("0123456789.");
  const std::string_view number = text.substr(0, digits);
  if (number.empty() || number.size() > digits_max) return std::nullopt;
  double value = 0;
  const auto [end, error] =
      std::from_chars(number.begin(), number.end(), value, std::chars_format::fixed);
  if (error != std::errc() || end != number.end()) return std::nullopt;
  const std::optional<double> factor =
      factor_of(digits == std::string_view::npos ? std::string_view() : text.substr(digits));
  if (!factor) return std::nullopt;
  const double bytes = std::ceil(value * *factor);
  if (!(bytes < 0x1p63)) return std::nullopt;
  return static_cast<int64_t>(bytes);
}

std::string format_quantity(int64_t bytes) {
  constexpr int64_t mebibyte = int64_t{1} << 20;
  if (bytes > 0 && bytes % mebibyte == 0) return std::to_string(bytes / mebibyte) + "Mi";
  return std::to_string(bytes);
}

}  // namespace remora::k8s
