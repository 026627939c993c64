#include "config/loader.h"

#include <sstream>
#include <utility>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

namespace remora::config {
namespace {

std::string describe(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kScalar:
      return quote(node.text);
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a mapping";
  }
  return "something else";
}

std::string join(const std::string& path, std::string_view segment) {
  return path.empty() ? std::string(segment) : path + "." + std::string(segment);
}

// "python agent.py" becomes [python, agent.py].
std::string as_list(std::string_view text) {
  std::string list = "[";
  std::istringstream words{std::string(text)};
  for (std::string word; words >> word;) {
    list.append(list.size() > 1 ? ", " : "").append(word);
  }
  return list + "]";
}

const FieldDescriptor* find_field(const MessageDescriptor& type, std::string_view key) {
  for (int i = 0; i < type.field_count(); ++i) {
    if (key_of(*type.field(i)) == key) return type.field(i);
  }
  return nullptr;
}

// Follows "agent.appPort" from the top; null when there is no such key. An override that is not
// structured can't name a section.
const FieldDescriptor* descend(std::string_view key, Message*& message, bool structured) {
  while (true) {
    const size_t dot = key.find('.');
    const FieldDescriptor* field =
        message->GetDescriptor()->FindFieldByCamelcaseName(std::string(key.substr(0, dot)));
    if (field == nullptr || (field->is_map() && !structured)) return nullptr;
    const bool is_section = field_form(*field) == FieldForm::kMessage;
    if (dot == std::string_view::npos) return is_section && !structured ? nullptr : field;
    if (!is_section || field->is_repeated()) return nullptr;
    message = message->GetReflection()->MutableMessage(message, field);
    key.remove_prefix(dot + 1);
  }
}

// What code writes for a section, so often that the parser need not see it.
constexpr std::string_view empty_section = "{}";

void load_structured(const Override& from, Message& message, const FieldDescriptor& field,
                     Reporter& reporter, Origins& origins) {
  if (from.values[0] == empty_section) {
    const YamlNode nothing{.kind = YamlNode::Kind::kMap, .line = 1, .column = 1, .text = {}};
    return Loader(from.origin, reporter, origins).load_field(nothing, message, field, from.key);
  }
  const auto tree = parse_yaml(from.values[0]);
  if (!tree) {
    return reporter.add(Origin{from.origin, tree.error().line, tree.error().column}, from.key,
                        tree.error().message, tree.error().mend);
  }
  if (tree->root == nullptr || tree->root->kind == YamlNode::Kind::kNull) {
    return reporter.add(from.key, "has no value", "write " + expected_text(field));
  }
  Loader(from.origin, reporter, origins).load_field(*tree->root, message, field, from.key);
}

}  // namespace

void Loader::load_document(const YamlNode& root, Message& config) {
  // "nothing at all" and "null" are empty files.
  if (root.kind == YamlNode::Kind::kNull) return;
  if (root.kind != YamlNode::Kind::kMap) {
    return complain(root, "", "is " + describe(root) + ", not a mapping",
                    "begin with a key, such as \"agent:\"");
  }
  load_message(root, config, "");
}

void Loader::complain(const YamlNode& node, const std::string& path, std::string message,
                      std::string mend) {
  reporter_.add(place_of(node), path, std::move(message), std::move(mend));
}

bool Loader::may_visit(const YamlNode& node) {
  if (nodes_left_ == 0) return false;
  if (--nodes_left_ > 0) return true;
  complain(node, "", "more than " + std::to_string(config_nodes_max) + " values with aliases",
           "use fewer aliases");
  return false;
}

void Loader::load_message(const YamlNode& node, Message& message, const std::string& path) {
  const MessageDescriptor& type = *message.GetDescriptor();
  std::map<std::string_view, int> seen;
  for (size_t i = 0; i + 1 < node.children.size(); i += 2) {
    const YamlNode& key = *node.children[i];
    const YamlNode& value = *node.children[i + 1];
    if (!may_visit(key)) return;
    if (!check_key(key, seen, path)) continue;
    const FieldDescriptor* field = find_field(type, key.text);
    if (field == nullptr) {
      report_unknown_key(type, key, path);
      continue;
    }
    const std::string field_path = join(path, key_of(*field));
    origins_.add(field_path, place_of(key));
    load_field(value, message, *field, field_path);
  }
  check_required(node, message, path);
}

bool Loader::check_key(const YamlNode& key, std::map<std::string_view, int>& seen,
                       const std::string& path) {
  if (key.kind != YamlNode::Kind::kScalar) {
    complain(key, path, "a key is " + describe(key), "write a name before the colon");
    return false;
  }
  const auto [it, is_new] = seen.emplace(key.text, key.line);
  if (is_new) return true;
  complain(key, join(path, path_segment(key.text)),
           "this key was already given in line " + std::to_string(it->second),
           "keep one of the two");
  return false;
}

void Loader::report_unknown_key(const MessageDescriptor& type, const YamlNode& key,
                                const std::string& path) {
  const std::string full_path = join(path, path_segment(key.text));
  if (key.text == "<<") {
    return complain(key, full_path, "merge keys are not supported", "write the keys out");
  }
  if (const std::string similar = similar_key(type, key.text); !similar.empty()) {
    return complain(key, full_path, "unknown key", "did you mean " + similar + "?");
  }
  if (const std::string elsewhere = find_key_anywhere(key.text); !elsewhere.empty()) {
    return complain(key, full_path, "unknown key here", "did you mean " + elsewhere + "?");
  }
  std::string known;
  for (int i = 0; i < type.field_count(); ++i) {
    known.append(i == 0 ? "" : ", ").append(key_of(*type.field(i)));
  }
  complain(key, full_path, "unknown key", "remove it, or use one of " + known);
}

void Loader::load_field(const YamlNode& node, Message& message, const FieldDescriptor& field,
                        const std::string& path) {
  if (!may_visit(node)) return;
  const FieldForm form = field_form(field);
  if (form == FieldForm::kMap) return load_map(node, message, field, path);
  if (field.is_repeated()) return load_list(node, message, field, path);
  if (form == FieldForm::kMessage) {
    // An empty section (all its keys commented out) is a section.
    Message& child = *message.GetReflection()->MutableMessage(&message, &field);
    if (expect(node, YamlNode::Kind::kMap, field, path)) load_message(node, child, path);
    return;
  }
  load_scalar(node, message, field, path);
}

bool Loader::expect(const YamlNode& node, YamlNode::Kind kind, const FieldDescriptor& field,
                    const std::string& path) {
  if (node.kind == kind || node.kind == YamlNode::Kind::kNull) return true;
  std::string mend = "write " + expected_text(field);
  if (kind == YamlNode::Kind::kList && node.kind == YamlNode::Kind::kScalar &&
      field_form(field) == FieldForm::kString && node.text.size() <= 100) {
    mend = "write a list: " + as_list(node.text);
  } else if (kind == YamlNode::Kind::kList && node.kind == YamlNode::Kind::kMap) {
    mend = "begin each item with \"- \"";
  } else if (kind == YamlNode::Kind::kMap && node.kind == YamlNode::Kind::kList) {
    mend = "remove the \"- \" and write NAME: VALUE lines";
  }
  const bool may_show = !rules_of(field).secret() || node.kind != YamlNode::Kind::kScalar;
  complain(node, path,
           "is " + (may_show ? describe(node) : "something else") + ", not " + expected_text(field),
           std::move(mend));
  return false;
}

void Loader::load_list(const YamlNode& node, Message& message, const FieldDescriptor& field,
                       const std::string& path) {
  if (!expect(node, YamlNode::Kind::kList, field, path)) return;
  for (size_t i = 0; i < node.children.size(); ++i) {
    const YamlNode& item = *node.children[i];
    if (!may_visit(item)) return;
    const std::string item_path = path + "[" + std::to_string(i) + "]";
    origins_.add(item_path, place_of(item));
    if (field_form(field) != FieldForm::kMessage) {
      load_scalar(item, message, field, item_path);
      continue;
    }
    Message& child = *message.GetReflection()->AddMessage(&message, &field);
    if (item.kind == YamlNode::Kind::kMap || item.kind == YamlNode::Kind::kNull) {
      load_message(item, child, item_path);
    } else {
      complain(item, item_path, "is " + describe(item) + ", not a mapping",
               "write NAME: VALUE lines");
    }
  }
}

void Loader::load_map(const YamlNode& node, Message& message, const FieldDescriptor& field,
                      const std::string& path) {
  if (!expect(node, YamlNode::Kind::kMap, field, path)) return;
  const MessageDescriptor& entry_type = *field.message_type();
  std::map<std::string_view, int> seen;
  for (size_t i = 0; i + 1 < node.children.size(); i += 2) {
    const YamlNode& key = *node.children[i];
    if (!may_visit(key)) return;
    if (!check_key(key, seen, path)) continue;
    const std::string entry_path = join(path, path_segment(key.text));
    origins_.add(entry_path, place_of(key));
    const Parsed<Value> name = parse_value(*entry_type.map_key(), key.text, key.quoted);
    if (!name) {
      complain(key, entry_path, "the name " + name.error().message, name.error().mend);
      continue;
    }
    Message& entry = *message.GetReflection()->AddMessage(&message, &field);
    store_value(entry, *entry_type.map_key(), *name);
    load_scalar(*node.children[i + 1], entry, *entry_type.map_value(), entry_path);
  }
}

void Loader::load_scalar(const YamlNode& node, Message& message, const FieldDescriptor& field,
                         const std::string& path) {
  if (node.kind == YamlNode::Kind::kNull) {
    // At the key: the parser places a missing value at whatever comes next.
    const bool text = field_form(field) == FieldForm::kString;
    return reporter_.add(path, "has no value",
                         text ? "write a text (\"\" for an empty one) or remove the key"
                              : "write a value or remove the key");
  }
  if (node.kind != YamlNode::Kind::kScalar) {
    return complain(node, path, "is " + describe(node) + ", not a single value", "write one value");
  }
  const Parsed<Value> value = parse_value(field, node.text, node.quoted);
  if (!value) return complain(node, path, value.error().message, value.error().mend);
  store_value(message, field, *value);
}

void Loader::check_required(const YamlNode& node, const Message& message, const std::string& path) {
  const MessageDescriptor& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (!rules_of(field).required()) continue;
    const std::string field_path = join(path, key_of(field));
    if (!origins_.is_set(field_path)) {
      complain(node, field_path, "is missing", "add it: " + rules_of(field).help());
      continue;
    }
    if (origins_.is_bad(field_path)) continue;
    const bool empty = field.is_repeated()
                           ? message.GetReflection()->FieldSize(message, &field) == 0
                           : value_text(message, field).empty();
    if (empty) reporter_.add(field_path, "is empty", "give it a value");
  }
}

void apply_override(const Override& from, Message& root, Reporter& reporter, Origins& origins) {
  if (from.is_default && origins.is_set(from.key)) return;
  const Origin place{.file = from.origin, .is_default = from.is_default};
  Message* message = &root;
  const FieldDescriptor* field = descend(from.key, message, from.structured);
  if (field == nullptr) {
    return reporter.add(place, from.key, "there is no such key", "use a key of the reference");
  }
  if ((from.structured || !field->is_repeated()) && from.values.size() != 1) {
    return reporter.add(place, from.key, "takes one value", "give it once");
  }
  message->GetReflection()->ClearField(message, field);
  origins.forget(from.key);
  origins.add(from.key, place);
  if (from.structured) return load_structured(from, *message, *field, reporter, origins);
  for (const std::string& text : from.values) {
    const Parsed<Value> value = parse_value(*field, text, false);
    if (value) {
      store_value(*message, *field, *value);
    } else {
      reporter.add(place, from.key, value.error().message, value.error().mend);
    }
  }
}

}  // namespace remora::config
