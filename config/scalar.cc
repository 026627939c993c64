#include "config/scalar.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <vector>

#include "sidecar/base/json_text.h"

namespace remora::config {
namespace {

struct Unit {
  std::string_view name;
  int64_t size;
};

constexpr std::array<Unit, 4> duration_units{{
    {"h", 3'600'000'000'000},
    {"m", 60'000'000'000},
    {"s", 1'000'000'000},
    {"ms", 1'000'000},
}};
constexpr std::array<Unit, 5> byte_units{{
    {"TiB", int64_t{1} << 40},
    {"GiB", int64_t{1} << 30},
    {"MiB", int64_t{1} << 20},
    {"KiB", int64_t{1} << 10},
    {"", 1},
}};

constexpr std::string_view duration_mend =
    "write a number with h, m, s or ms, such as 30s or 1h30m";
constexpr std::string_view bytes_mend =
    "write a whole number of bytes, or one with KiB, MiB, GiB or TiB, such as 64KiB";

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string_view take_while(std::string_view& text, bool (*wanted)(char)) {
  const size_t n = static_cast<size_t>(std::ranges::find_if_not(text, wanted) - text.begin());
  const std::string_view head = text.substr(0, n);
  text.remove_prefix(n);
  return head;
}

std::unexpected<Complaint> complain(std::string message, std::string_view mend) {
  return std::unexpected(Complaint{std::move(message), std::string(mend)});
}

// number (digits with at most one dot) times unit, in the unit's own units; nullopt-like -1 on
// overflow or a malformed number.
int64_t scale(std::string_view number, int64_t unit) {
  const size_t dot = number.find('.');
  const std::string_view whole_text = number.substr(0, dot);
  int64_t total = 0;
  const auto [end, error] =
      std::from_chars(whole_text.data(), whole_text.data() + whole_text.size(), total);
  if (error != std::errc{} || end != whole_text.data() + whole_text.size()) return -1;
  if (__builtin_mul_overflow(total, unit, &total)) return -1;
  if (dot == std::string_view::npos) return total;
  const std::string_view fraction = number.substr(dot + 1);
  if (fraction.empty() || fraction.find('.') != std::string_view::npos) return -1;
  int64_t place = unit;
  for (const char c : fraction) {
    place /= 10;
    if (__builtin_add_overflow(total, (c - '0') * place, &total)) return -1;
  }
  return total;
}

}  // namespace

Parsed<Duration> parse_duration(std::string_view text) {
  const auto wrong = [&] { return complain(quote(text) + " is not a duration", duration_mend); };
  std::string_view rest = text;
  size_t next_unit = 0;
  int64_t total = 0;
  if (rest.empty()) return wrong();
  if (rest.front() == '-') return complain(quote(text) + " is negative", "write 0s or more");
  while (!rest.empty()) {
    const std::string_view number =
        take_while(rest, [](char c) { return is_digit(c) || c == '.'; });
    const std::string_view unit = take_while(rest, [](char c) { return !is_digit(c) && c != '.'; });
    if (number.empty() || number.front() == '.') return wrong();
    if (unit.empty()) {
      return complain(quote(text) + " has no unit",
                      "write " + std::string(text) + "s for seconds, or another of h, m, s, ms");
    }
    while (next_unit < duration_units.size() && duration_units[next_unit].name != unit) ++next_unit;
    if (next_unit == duration_units.size()) return wrong();
    const int64_t part = scale(number, duration_units[next_unit].size);
    if (part < 0 || __builtin_add_overflow(total, part, &total)) return wrong();
    ++next_unit;
  }
  if (total % duration_units.back().size != 0) {
    return complain(quote(text) + " is finer than a millisecond", "write whole milliseconds");
  }
  return Duration(total);
}

std::string format_duration(Duration d) {
  int64_t rest = d.count();
  std::string out;
  for (const Unit& unit : duration_units) {
    if (rest < unit.size) continue;
    out.append(std::to_string(rest / unit.size)).append(unit.name);
    rest %= unit.size;
  }
  return out.empty() ? "0s" : out;
}

Parsed<int64_t> parse_bytes(std::string_view text) {
  std::string_view unit = text;
  const std::string_view number = take_while(unit, is_digit);
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  if (number.empty()) return complain(quote(text) + " is not a size", bytes_mend);
  for (const Unit& known : byte_units) {
    if (known.name != unit) continue;
    const int64_t n = scale(number, known.size);
    if (n < 0) return complain(quote(text) + " is too large", bytes_mend);
    return n;
  }
  return complain("unknown unit " + quote(unit) + " in " + quote(text), bytes_mend);
}

std::string format_bytes(int64_t n) {
  for (const Unit& unit : byte_units) {
    if (n != 0 && n % unit.size == 0) return std::to_string(n / unit.size).append(unit.name);
  }
  return std::to_string(n);
}

Parsed<int64_t> parse_integer(std::string_view text) {
  int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error == std::errc::result_out_of_range) {
    return complain(quote(text) + " is too large", "write a smaller number");
  }
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) {
    return complain(quote(text) + " is not a whole number", "write digits only, such as 8080");
  }
  return n;
}

Parsed<bool> parse_bool(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return complain(quote(text) + " is neither true nor false", "write true or false");
}

// Optimal string alignment; both texts are keys, so quadratic cost is nothing.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> two_back(b.size() + 1);
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    two_back.swap(last);
    last.swap(row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min(
          {last[j] + 1, row[j - 1] + 1, last[j - 1] + static_cast<size_t>(a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], two_back[j - 2] + 1);
      }
    }
  }
  return row[b.size()];
}

std::string quote(std::string_view text) {
  constexpr size_t shown_bytes_max = 60;
  std::string out = "\"";
  std::string shown(text.substr(0, shown_bytes_max));
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  // Escapes quotes and repairs UTF-8 that was cut in the middle or was never valid.
  append_json_escaped(out, shown);
  if (text.size() > shown_bytes_max) out += "…";
  out += '"';
  return out;
}

std::string path_segment(std::string_view key) {
  constexpr size_t plain_bytes_max = 64;
  const bool plain = !key.empty() && key.size() <= plain_bytes_max &&
                     std::ranges::all_of(key, [](char c) { return c > 0x20 && c < 0x7f; });
  return plain ? std::string(key) : quote(key);
}

}  // namespace remora::config
