#include "k8s/kubectl/table.h"

#include <algorithm>
#include <array>
#include <utility>

namespace remora::k8s {
namespace {

constexpr size_t gap = 3;

void append_row(std::string& out, const Row& row, const std::vector<size_t>& widths) {
  for (size_t i = 0; i < row.size(); ++i) {
    const std::string cell = row[i].empty() ? "-" : printable(row[i]);
    out += cell;
    if (i + 1 < row.size()) out.append(widths[i] + gap - std::min(cell.size(), widths[i]), ' ');
  }
  out += '\n';
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return out;
}

std::string render_table(const Row& heads, const std::vector<Row>& rows) {
  std::vector<size_t> widths;
  for (const std::string& head : heads) widths.push_back(head.size());
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size() && i < widths.size(); ++i) {
      widths[i] = std::max(widths[i], std::max<size_t>(1, row[i].size()));
    }
  }
  std::string out;
  append_row(out, heads, widths);
  for (const Row& row : rows) append_row(out, row, widths);
  return out;
}

std::string short_age(Duration age) {
  const int64_t s = std::max<int64_t>(0, to_ms(age) / 1000);
  constexpr std::array<std::pair<int64_t, const char*>, 3> units{
      {{86'400, "d"}, {3'600, "h"}, {60, "m"}}};
  for (const auto& [unit_s, name] : units) {
    // Twice, so that "90m" is not said as "1h".
    if (s >= 2 * unit_s) return std::to_string(s / unit_s) + name;
  }
  return std::to_string(s) + "s";
}

}  // namespace remora::k8s
