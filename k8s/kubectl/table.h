// Tables as kubectl prints them. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sidecar/base/clock.h"

namespace remora::k8s {

using Row = std::vector<std::string>;

// Columns as wide as they must be, three blanks between them; an empty cell is "-". Control
// characters become "?": a terminal obeys nothing that an agent wrote.
std::string render_table(const Row& heads, const std::vector<Row>& rows);
std::string printable(std::string_view text);

// As kubectl writes an age: "45s", "12m", "3h", "2d". Negative ones are "0s".
std::string short_age(Duration age);

}  // namespace remora::k8s
