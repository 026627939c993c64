#include "config/reference.h"

#include <set>
#include <string_view>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "config/load.h"
#include "config/reference_text.h"
#include "config/schema.h"

namespace remora::config {
namespace {

constexpr std::string_view preamble = R"(# Configuration

<!-- Generated from config/remora.proto by `remora validate --schema`. Change it there. -->

Remora reads one YAML file (`remora run -c remora.yaml`). Every key has a default, so an empty file
is valid and the file itself is optional. Options on the command line win over the file. `remora
validate remora.yaml` checks a file and reports everything that is wrong with it at once; SIGHUP
reloads it, and a file with problems leaves the running configuration as it is.

- An unknown key is an error, and so is a key given twice.
- A **duration** is a number with `h`, `m`, `s` or `ms`: `30s`, `100ms`, `1h30m`. A number without a
  unit is refused.
- A **size** is a number of bytes, or one with `KiB`, `MiB`, `GiB` or `TiB` (powers of 1024).
- Keys marked *section if present* act by being there; all other sections always exist, with their
  defaults.
- The probes have the names, defaults and meaning of Kubernetes' (core/v1 Probe).

)";

class Writer {
 public:
  std::string write() {
    out_ = preamble;
    section(*Config::descriptor(), "Top level", "");
    return std::move(out_);
  }

 private:
  // One table, then those of its sections. A message type that several keys share (the probes) is
  // written once, under the first of them.
  void section(const MessageDescriptor& type, const std::string& title, const std::string& help) {
    out_.append("## ").append(title).append("\n\n");
    if (!help.empty()) out_.append(help).append("\n\n");
    out_ += "| Key | Type | Default | Allowed | Meaning |\n|---|---|---|---|---|\n";
    for (int i = 0; i < type.field_count(); ++i) row(*type.field(i));
    out_ += '\n';
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor& field = *type.field(i);
      if (field_form(field) != FieldForm::kMessage) continue;
      if (!written_.insert(field.message_type()).second) continue;
      section(*field.message_type(), title_of(type, field, title), rules_of(field).help());
    }
  }

  static std::string title_of(const MessageDescriptor& parent, const FieldDescriptor& field,
                              const std::string& parent_title) {
    std::string title;
    for (int i = 0; i < parent.field_count(); ++i) {
      const FieldDescriptor& sibling = *parent.field(i);
      if (field_form(sibling) != FieldForm::kMessage) continue;
      if (sibling.message_type() != field.message_type()) continue;
      if (!title.empty()) title += ", ";
      title += path_in(parent, sibling, parent_title);
    }
    return title;
  }

  static std::string path_in(const MessageDescriptor& parent, const FieldDescriptor& field,
                             const std::string& parent_title) {
    const std::string suffix = field.is_repeated() ? "[]" : "";
    if (&parent == Config::descriptor()) return key_of(field) + suffix;
    // "startupProbe, livenessProbe, …" is too long a prefix.
    const bool shared = parent_title.find(',') != std::string::npos;
    return (shared ? "*probe*" : parent_title) + "." + key_of(field) + suffix;
  }

  void row(const FieldDescriptor& field) {
    out_.append("| `").append(key_of(field)).append("` | ").append(type_text(field));
    out_.append(" | ").append(table_cell(default_text(field)));
    out_.append(" | ").append(table_cell(allowed_text(field)));
    out_.append(" | ").append(table_cell(rules_of(field).help())).append(" |\n");
  }

  std::set<const MessageDescriptor*> written_;
  std::string out_;
};

}  // namespace

std::string render_reference() { return Writer().write(); }

}  // namespace remora::config
