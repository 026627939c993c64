#include "k8s/inject/yaml_json.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "sidecar/base/json_text.h"

namespace remora::k8s {
namespace {

using config::YamlError;
using config::YamlNode;

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::ranges::find(words, text) != words.end();
}

std::optional<bool> plain_bool(std::string_view text) {
  if (is_one_of(text, {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})) return true;
  if (is_one_of(text, {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})) {
    return false;
  }
  return std::nullopt;
}

// 0644 and 0o644 are octal, 0x1f hexadecimal, 0b11 binary, as Go reads them.
std::optional<Json> plain_integer(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  int base = 10;
  if (text.size() > 2 && text[0] == '0' && is_one_of(text.substr(1, 1), {"x", "o", "b"})) {
    base = text[1] == 'x' ? 16 : text[1] == 'o' ? 8 : 2;
    text.remove_prefix(2);
  } else if (text.size() > 1 && text[0] == '0') {
    base = 8;
    text.remove_prefix(1);
  }
  uint64_t magnitude = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), magnitude, base);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  if (!negative) return Json(magnitude);
  if (magnitude > uint64_t{1} << 63) return std::nullopt;
  return Json(static_cast<int64_t>(~magnitude + 1));
}

// [-+]?(digits[.digits]|.digits)([eE][-+]?digits)?
std::optional<Json> plain_float(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.empty() || text.find_first_not_of("0123456789.eE+-") != text.npos) return std::nullopt;
  if (!std::isdigit(static_cast<unsigned char>(text[0])) && text[0] != '.') return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return Json(negative ? -value : value);
}

Json scalar(const YamlNode& node) {
  if (node.quoted) return node.text;
  if (const auto boolean = plain_bool(node.text)) return *boolean;
  if (auto integer = plain_integer(node.text)) return *std::move(integer);
  if (auto number = plain_float(node.text)) return *std::move(number);
  return node.text;
}

// Leaves the conversion; never leaves this file.
struct Stop {
  YamlError error;
};

class Converter {
 public:
  Json convert(const YamlNode& node, size_t depth) {
    // Aliases are counted anew at each use, and may nest what they stand for.
    if (nodes_left_-- == 0 || depth > manifest_depth_max) {
      throw Stop{{node.line, node.column, "aliases make this too large", "use fewer aliases"}};
    }
    switch (node.kind) {
      case YamlNode::Kind::kNull:
        return nullptr;
      case YamlNode::Kind::kScalar:
        return scalar(node);
      case YamlNode::Kind::kList: {
        Json list = Json::array();
        for (const YamlNode* item : node.children) list.push_back(convert(*item, depth + 1));
        return list;
      }
      case YamlNode::Kind::kMap:
        return convert_map(node, depth);
    }
    return nullptr;
  }

 private:
  Json convert_map(const YamlNode& node, size_t depth) {
    Json map = Json::object();
    std::vector<const YamlNode*> merged;
    for (size_t i = 0; i + 1 < node.children.size(); i += 2) {
      const YamlNode& key = *node.children[i];
      if (key.kind != YamlNode::Kind::kScalar) {
        throw Stop{{key.line, key.column, "a key is no text", "write a name before the colon"}};
      }
      if (key.text == "<<" && !key.quoted) {
        merged.push_back(node.children[i + 1]);
        continue;
      }
      if (map.contains(key.text)) {
        throw Stop{{key.line, key.column, "the key " + key.text + " is there twice",
                    "keep one of the two"}};
      }
      map[key.text] = convert(*node.children[i + 1], depth + 1);
    }
    for (const YamlNode* value : merged) merge(*value, map, depth);
    return map;
  }

  // Keys that are there already win, and earlier ones of a list.
  void merge(const YamlNode& value, Json& map, size_t depth) {
    if (value.kind == YamlNode::Kind::kList) {
      for (const YamlNode* item : value.children) {
        if (item->kind != YamlNode::Kind::kMap) refuse_merge(*item);
        merge(*item, map, depth);
      }
      return;
    }
    if (value.kind != YamlNode::Kind::kMap) refuse_merge(value);
    const Json more = convert(value, depth + 1);
    for (const auto& [key, member] : more.items()) {
      if (!map.contains(key)) map[key] = member;
    }
  }

  [[noreturn]] static void refuse_merge(const YamlNode& node) {
    throw Stop{{node.line, node.column, "\"<<\" needs a mapping", "write an alias of a mapping"}};
  }

  size_t nodes_left_ = manifest_nodes_max;
};

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// Means itself in every place and to every reader; anything else is quoted.
bool is_plain(std::string_view text) {
  if (text.empty() || !(is_letter(text[0]) || text[0] == '/')) return false;
  for (const char c : text) {
    const bool good = is_letter(c) || (c >= '0' && c <= '9') ||
                      std::string_view("/._-").find(c) != std::string_view::npos;
    if (!good) return false;
  }
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return !is_one_of(lower,
                    {"true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"});
}

// Also "image: nginx:1.25" and "a b", which only need care about ": ", " #" and the ends.
bool is_plain_value(std::string_view text) {
  if (is_plain(text)) return true;
  if (text.empty() || !(is_letter(text[0]) || text[0] == '/') || text.back() == ' ' ||
      text.back() == ':') {
    return false;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool good = is_letter(c) || (c >= '0' && c <= '9') ||
                      std::string_view("/._-@+=%~ ").find(c) != std::string_view::npos ||
                      (c == ':' && i + 1 < text.size() && text[i + 1] != ' ');
    if (!good) return false;
  }
  // A word before the first blank is no keyword then; one alone has been looked at above.
  return text.find_first_of(": @+=%~") != std::string_view::npos;
}

std::string double_quoted(std::string_view text) {
  std::string out = "\"";
  append_json_escaped(out, text);
  return out += '"';
}

// Of anything that stands in one line.
std::string json_text(const Json& value) {
  if (value.is_string()) return double_quoted(value.get_ref<const std::string&>());
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// Texts of several lines that a literal block holds unchanged.
bool is_literal(const std::string& text) {
  if (text.find('\n') == std::string::npos || text[0] == ' ' || text[0] == '\n') return false;
  return std::ranges::all_of(text, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return c == '\n' || (byte >= 0x20 && byte < 0x7f);
  });
}

// JSON inside a text is easier to read without a backslash at each quote.
bool is_single_quoted(std::string_view text) {
  return text.find('"') != text.npos && std::ranges::all_of(text, [](char c) {
           const auto byte = static_cast<unsigned char>(c);
           return byte >= 0x20 && byte < 0x7f;
         });
}

class Emitter {
 public:
  std::string emit(const Json& value) {
    if (value.is_structured() && !value.empty()) {
      block(value, 0);
    } else {
      out_.append(json_text(value)).append("\n");
    }
    return std::move(out_);
  }

 private:
  void indent(size_t depth) { out_.append(depth * 2, ' '); }

  void block(const Json& value, size_t depth) {
    if (value.is_array()) {
      for (const Json& item : value) {
        indent(depth);
        out_ += "-";
        after_dash(item, depth);
      }
      return;
    }
    bool first = true;
    for (const auto& [key, member] : value.items()) {
      if (!(first && skip_indent_)) indent(depth);
      first = false;
      skip_indent_ = false;
      out_ += is_plain(key) ? key : double_quoted(key);
      out_ += ':';
      after_key(member, depth);
    }
  }

  void after_dash(const Json& item, size_t depth) {
    if (item.is_object() && !item.empty()) {
      out_ += ' ';
      skip_indent_ = true;
      block(item, depth + 1);
    } else if (item.is_array() && !item.empty()) {
      out_ += '\n';
      block(item, depth + 1);
    } else {
      out_ += ' ';
      flow(item, depth + 1);
    }
  }

  void after_key(const Json& member, size_t depth) {
    if (member.is_structured() && !member.empty()) {
      out_ += '\n';
      // Lists stand under their key without further indentation, as kubectl writes them.
      block(member, member.is_array() ? depth : depth + 1);
    } else {
      out_ += ' ';
      flow(member, depth + 1);
    }
  }

  // What stands in the line; ends it.
  void flow(const Json& value, size_t depth) {
    if (!value.is_string()) {
      out_.append(json_text(value)).append("\n");
      return;
    }
    const std::string& text = value.get_ref<const std::string&>();
    if (is_plain_value(text)) {
      out_.append(text).append("\n");
    } else if (is_literal(text)) {
      literal(text, depth);
    } else if (is_single_quoted(text)) {
      out_ += '\'';
      for (const char c : text) out_.append(c == '\'' ? 2 : 1, c);
      out_ += "'\n";
    } else {
      out_.append(json_text(value)).append("\n");
    }
  }

  void literal(const std::string& text, size_t depth) {
    const bool ends = text.ends_with('\n');
    out_ += !ends ? "|-\n" : text.ends_with("\n\n") ? "|+\n" : "|\n";
    std::string_view rest = text;
    while (!rest.empty()) {
      const size_t end = rest.find('\n');
      const std::string_view line = rest.substr(0, end);
      if (!line.empty()) indent(depth);
      out_.append(line).append("\n");
      rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
    }
  }

  std::string out_;
  bool skip_indent_ = false;
};

}  // namespace

std::expected<Json, YamlError> yaml_to_json(std::string_view text) {
  const auto tree = config::parse_yaml(text, {.bytes_max = manifest_bytes_max,
                                              .depth_max = manifest_depth_max,
                                              .nodes_max = manifest_nodes_max});
  if (!tree) return std::unexpected(tree.error());
  if (tree->root == nullptr) return Json(nullptr);
  try {
    return Converter().convert(*tree->root, 0);
  } catch (Stop& stop) {
    return std::unexpected(std::move(stop.error));
  }
}

std::string json_to_yaml(const Json& value) { return Emitter().emit(value); }

}  // namespace remora::k8s
