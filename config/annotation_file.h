// The file into which the kubelet writes a pod's annotations or labels (downward API volume): one
// KEY="VALUE" a line, VALUE quoted and escaped as in a Go string literal. Pure, and safe with any
// bytes.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "sidecar/base/error.h"

namespace remora::config {

using Annotations = std::map<std::string, std::string, std::less<>>;

// Kubernetes allows 256 KiB of keys and values; a byte takes at most 6 when it is escaped.
inline constexpr size_t annotation_file_bytes_max = 6 * 256 * 1024;

// kCorrupt names the line that can't be read, kLimitExceeded past annotation_file_bytes_max. A key
// that comes twice keeps its last value, as the kubelet writes each once.
Result<Annotations> parse_annotation_file(std::string_view text);
// The same from a file, with the errors of read_file.
Result<Annotations> load_annotation_file(const std::string& path);

}  // namespace remora::config
