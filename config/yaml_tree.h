// A YAML document as a tree with positions: the only place that knows yaml-cpp.
//
// Built from parser events, so that limits (depth, nodes, one document) stop the parser while it
// reads instead of after it has built everything. Aliases point at the anchored node and are never
// copied; an alias inside its own anchor is refused, so the tree has no cycles.
#pragma once

#include <deque>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "config/load.h"

namespace remora::config {

struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  int line = 0;  // from 1
  int column = 0;
  bool quoted = false;                      // scalars: written in quotes or as a block
  std::string text;                         // scalars
  std::vector<const YamlNode*> children{};  // kList: items; kMap: key, value, key, value, …
};

struct YamlTree {
  std::deque<YamlNode> nodes;      // owns; addresses are stable
  const YamlNode* root = nullptr;  // null: the text holds no document
};

struct YamlError {
  int line = 0;
  int column = 0;
  std::string message;
  std::string mend;
};

struct YamlLimits {
  size_t bytes_max = config_bytes_max;
  size_t depth_max = config_depth_max;
  size_t nodes_max = config_nodes_max;
};

// Fails at the first syntax error (nothing after it can be trusted) or limit.
std::expected<YamlTree, YamlError> parse_yaml(std::string_view text, const YamlLimits& limits = {});

}  // namespace remora::config
