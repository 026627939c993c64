// Fills messages of the schema from YAML trees, and applies overrides to them: what load_yaml and
// the annotations of a pod have in common. Every problem goes to the reporter; nothing stops the
// rest.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "config/load.h"
#include "config/origins.h"
#include "config/schema.h"
#include "config/yaml_tree.h"

namespace remora::config {

class Loader {
 public:
  // file is named in problems. All three outlive the loader.
  Loader(std::string_view file, Reporter& reporter, Origins& origins)
      : file_(file), reporter_(reporter), origins_(origins) {}

  void load_document(const YamlNode& root, Message& config);
  // node is the value of field, which is at path and of message.
  void load_field(const YamlNode& node, Message& message, const FieldDescriptor& field,
                  const std::string& path);

 private:
  Origin place_of(const YamlNode& node) const {
    return {std::string(file_), node.line, node.column};
  }
  void complain(const YamlNode& node, const std::string& path, std::string message,
                std::string mend);
  // Counts node; false once the budget is used up (an alias bomb), which is reported once.
  bool may_visit(const YamlNode& node);
  void load_message(const YamlNode& node, Message& message, const std::string& path);
  // Reports a key that is no text or was there before.
  bool check_key(const YamlNode& key, std::map<std::string_view, int>& seen,
                 const std::string& path);
  void report_unknown_key(const MessageDescriptor& type, const YamlNode& key,
                          const std::string& path);
  // True when node is of the kind, or empty; otherwise reports it.
  bool expect(const YamlNode& node, YamlNode::Kind kind, const FieldDescriptor& field,
              const std::string& path);
  void load_list(const YamlNode& node, Message& message, const FieldDescriptor& field,
                 const std::string& path);
  void load_map(const YamlNode& node, Message& message, const FieldDescriptor& field,
                const std::string& path);
  void load_scalar(const YamlNode& node, Message& message, const FieldDescriptor& field,
                   const std::string& path);
  void check_required(const YamlNode& node, const Message& message, const std::string& path);

  std::string_view file_;
  Reporter& reporter_;
  Origins& origins_;
  size_t nodes_left_ = config_nodes_max;
};

// Replaces what is at from.key, or leaves it when from is a default and the key was written.
void apply_override(const Override& from, Message& root, Reporter& reporter, Origins& origins);

}  // namespace remora::config
