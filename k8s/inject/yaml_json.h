// YAML manifests as JSON values and back, by the rules that kubectl reads them with: plain words
// and numbers have their YAML 1.1 meaning as far as Go's YAML library gives them one, everything
// else is text. Order of keys is kept; comments are not.
#pragma once

#include <cstddef>
#include <expected>
#include <string>
#include <string_view>

#include "config/yaml_tree.h"
#include "k8s/inject/json_view.h"

namespace remora::k8s {

// Custom resource definitions are large and deep; the API server's own limit is 3 MiB a request.
inline constexpr size_t manifest_bytes_max = 8 << 20;
inline constexpr size_t manifest_depth_max = 100;
inline constexpr size_t manifest_nodes_max = 1'000'000;

// One document. Null for an empty one. Merge keys ("<<") are carried out.
std::expected<Json, config::YamlError> yaml_to_json(std::string_view text);

// Block style, two blanks a level; texts of several lines as literal blocks. Reads back, by
// yaml_to_json and by kubectl, as the same value.
std::string json_to_yaml(const Json& value);

}  // namespace remora::k8s
