// JSON string escaping for the two writers on the data path (logs and error replies). Everything
// that builds or reads whole documents uses nlohmann::json.
#pragma once

#include <string>
#include <string_view>

namespace remora {

// Appends text as the inside of a JSON string (RFC 8259 section 7). Bytes that are not valid UTF-8
// become U+FFFD, so that the result is always valid JSON whatever came over the wire.
void append_json_escaped(std::string& out, std::string_view text);

// Length in bytes of the valid UTF-8 sequence at the start of text (RFC 3629 section 4); 0 when
// there is none. text is not empty.
size_t utf8_sequence_length(std::string_view text);

}  // namespace remora
