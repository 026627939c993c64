// The values that stand in YAML for one schema field: text to value, with what to do when it is
// wrong, and value back to text. Pure.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <variant>

#include "sidecar/base/clock.h"

namespace remora::config {

// What is wrong with a value, without its place.
struct Complaint {
  std::string message;
  std::string mend;
};
template <typename T>
using Parsed = std::expected<T, Complaint>;

// "30s", "100ms", "1h30m", "1.5s": decimal numbers with h, m, s or ms, largest unit first, each at
// most once. Never negative. A number without a unit is refused, 0 too.
Parsed<Duration> parse_duration(std::string_view text);
// The shortest form that parse_duration reads back: "1h30m", "100ms", "0s". Whole milliseconds.
std::string format_duration(Duration d);

// "1048576", "64KiB", "2MiB", "1GiB", "1TiB"; powers of 1024 only.
Parsed<int64_t> parse_bytes(std::string_view text);
std::string format_bytes(int64_t n);

Parsed<int64_t> parse_integer(std::string_view text);
Parsed<bool> parse_bool(std::string_view text);

// How many single-character edits (insert, delete, change, swap of neighbours) lead from a to b.
size_t edit_distance(std::string_view a, std::string_view b);

// Text for a message: quoted, cut at 60 bytes, control characters shown as "?".
std::string quote(std::string_view text);

// A key as part of a path: as it is when it is plain, otherwise quote()d.
std::string path_segment(std::string_view key);

}  // namespace remora::config
