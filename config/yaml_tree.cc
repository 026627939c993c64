#include "config/yaml_tree.h"

#include <optional>
#include <sstream>
#include <utility>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include "sidecar/base/json_text.h"

namespace remora::config {
namespace {

// "!!str": what is meant is what a quoted scalar is.
constexpr std::string_view string_tag = "tag:yaml.org,2002:str";

// Leaves the parser from inside an event; never leaves this file.
struct Stop {
  YamlError error;
};

[[noreturn]] void stop_at(const YAML::Mark& mark, std::string message, std::string mend) {
  throw Stop{{mark.line + 1, mark.column + 1, std::move(message), std::move(mend)}};
}

class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(YamlTree& tree, const YamlLimits& limits) : tree_(tree), limits_(limits) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (tree_.root != nullptr) {
      stop_at(mark, "a second YAML document begins here", "keep one document in the file");
    }
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    place(add(YamlNode::Kind::kNull, mark, anchor, true));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (anchor >= anchors_.size() || anchors_[anchor] == nullptr) {
      stop_at(mark, "this alias stands inside the value it names", "write the value out");
    }
    place(*anchors_[anchor]);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode& node = add(YamlNode::Kind::kScalar, mark, anchor, true);
    // yaml-cpp gives plain scalars the tag "?" and all others "!".
    node.quoted = tag != "?";
    if (tag != "?" && tag != "!" && tag != string_tag) refuse_tag(mark, tag);
    const bool is_null = !node.quoted && (value.empty() || value == "~" || value == "null" ||
                                          value == "Null" || value == "NULL");
    if (is_null) {
      node.kind = YamlNode::Kind::kNull;
    } else {
      node.text = value;
    }
    place(node);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    open(YamlNode::Kind::kList, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    open(YamlNode::Kind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    YamlNode* node;
    YAML::anchor_t anchor;
  };

  [[noreturn]] static void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    stop_at(mark, "the tag " + tag + " is not supported", "remove the tag");
  }

  // complete: the node can be aliased at once; collections only when closed.
  YamlNode& add(YamlNode::Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor, bool complete) {
    if (tree_.nodes.size() >= limits_.nodes_max) {
      stop_at(mark, "more than " + std::to_string(limits_.nodes_max) + " values",
              "shorten the file");
    }
    YamlNode& node = tree_.nodes.emplace_back();
    node.kind = kind;
    node.line = mark.line + 1;
    node.column = mark.column + 1;
    if (complete) remember(anchor, node);
    return node;
  }

  void remember(YAML::anchor_t anchor, const YamlNode& node) {
    if (anchor == YAML::NullAnchor) return;
    if (anchor >= anchors_.size()) anchors_.resize(anchor + 1);
    anchors_[anchor] = &node;
  }

  void place(const YamlNode& node) {
    if (open_.empty()) {
      tree_.root = &node;
    } else {
      open_.back().node->children.push_back(&node);
    }
  }

  void open(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
            YAML::anchor_t anchor) {
    if (open_.size() >= limits_.depth_max) {
      stop_at(mark, "nested more than " + std::to_string(limits_.depth_max) + " deep",
              "nothing here needs that; check the brackets and the indentation");
    }
    if (tag != "?" && tag != "!" && !tag.empty()) refuse_tag(mark, tag);
    YamlNode& node = add(kind, mark, anchor, false);
    place(node);
    open_.push_back({&node, anchor});
  }

  void close() {
    remember(open_.back().anchor, *open_.back().node);
    open_.pop_back();
  }

  YamlTree& tree_;
  const YamlLimits& limits_;
  std::vector<Open> open_;
  std::vector<const YamlNode*> anchors_;
};

YamlError from_exception(const YAML::Exception& e) {
  YamlError error;
  // A null mark means that the parser did not say where.
  if (!e.mark.is_null()) {
    error.line = e.mark.line + 1;
    error.column = e.mark.column + 1;
  }
  error.message = "not YAML: " + (e.msg.empty() ? std::string("syntax error") : e.msg);
  error.mend =
      "check the indentation (spaces, no tabs), colons, quotes and brackets here and just above";
  return error;
}

// UTF-8 without NUL: what neither YAML nor the schema's strings could hold is refused with its
// place, before the parser sees it.
std::optional<YamlError> check_text(std::string_view text) {
  int line = 1;
  int column = 1;
  for (size_t i = 0; i < text.size(); ++column) {
    const size_t length = utf8_sequence_length(text.substr(i));
    if (length == 0 || text[i] == '\0') {
      return YamlError{line, column, length == 0 ? "is not UTF-8 here" : "holds a NUL byte",
                       "save the file as UTF-8 text"};
    }
    if (text[i] == '\n') {
      ++line;
      column = 0;
    }
    i += length;
  }
  return std::nullopt;
}

}  // namespace

std::expected<YamlTree, YamlError> parse_yaml(std::string_view text, const YamlLimits& limits) {
  if (text.size() > limits.bytes_max) {
    return std::unexpected(YamlError{
        0, 0, "larger than " + std::to_string(limits.bytes_max) + " bytes", "shorten the file"});
  }
  if (std::optional<YamlError> error = check_text(text)) return std::unexpected(*std::move(error));
  YamlTree tree;
  if (text.empty()) return tree;
  try {
    std::istringstream in{std::string(text)};
    YAML::Parser parser(in);
    TreeBuilder builder(tree, limits);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (Stop& stop) {
    return std::unexpected(std::move(stop.error));
  } catch (const YAML::Exception& e) {
    return std::unexpected(from_exception(e));
  } catch (const std::exception& e) {
    return std::unexpected(YamlError{0, 0, std::string("not YAML: ") + e.what(),
                                     "check that the file is YAML in UTF-8"});
  }
  return tree;
}

}  // namespace remora::config
