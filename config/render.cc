#include "config/render.h"

#include <algorithm>
#include <map>
#include <vector>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "config/schema.h"
#include "sidecar/base/json_text.h"

namespace remora::config {
namespace {

constexpr std::string_view redacted = "<redacted>";

// JSON strings are YAML double-quoted scalars too, so one form serves both.
std::string json_string(std::string_view text) {
  std::string out = "\"";
  append_json_escaped(out, text);
  return out += '"';
}

// Letters, digits and a few marks that mean nothing to YAML in any place, and no look-alike of a
// number, a boolean or null.
bool is_plain_yaml(std::string_view text) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto is_plain = [&](char c) {
    return is_letter(c) || (c >= '0' && c <= '9') || std::string_view("/._-").contains(c);
  };
  if (text.empty() || !std::ranges::all_of(text, is_plain)) return false;
  if (!is_letter(text[0]) && text[0] != '/') return false;
  for (const std::string_view word :
       {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}) {
    if (std::ranges::equal(text, word, [](char a, char b) { return (a | 0x20) == b; })) {
      return false;
    }
  }
  return true;
}

class Renderer {
 public:
  Renderer(bool json, bool redact) : json_(json), redact_(redact) {}

  std::string render(const Config& config) {
    if (json_) out_ += "{";
    render_message(config, 0);
    if (json_) out_ += "\n}";
    out_ += '\n';
    return std::move(out_);
  }

 private:
  std::string scalar(const FieldDescriptor& field, std::string_view text) const {
    switch (field_form(field)) {
      case FieldForm::kBool:
      case FieldForm::kInteger:
        return std::string(text);
      case FieldForm::kBytes:
        // "64KiB" is text to JSON; a bare number is not.
        return json_ && text.find('B') != text.npos ? json_string(text) : std::string(text);
      case FieldForm::kDuration:
        return json_ ? json_string(text) : std::string(text);
      default:
        return !json_ && is_plain_yaml(text) ? std::string(text) : json_string(text);
    }
  }

  // Ends the line before (with a comma where JSON wants one) and begins the next.
  void new_line(int depth, bool first) {
    if (json_) {
      out_ += first ? "\n" : ",\n";
      ++depth;
    } else if (!out_.empty() && !after_dash_) {
      out_ += '\n';
    }
    if (!after_dash_) out_.append(static_cast<size_t>(depth) * 2, ' ');
    after_dash_ = false;
  }

  void key(std::string_view name, int depth, bool first) {
    new_line(depth, first);
    out_ += json_ || !is_plain_yaml(name) ? json_string(name) : std::string(name);
    out_ += ':';
  }

  void render_message(const Message& message, int depth) {
    const MessageDescriptor& type = *message.GetDescriptor();
    const google::protobuf::Reflection& reflection = *message.GetReflection();
    bool first = true;
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor& field = *type.field(i);
      if (!is_shown(message, field)) continue;
      key(key_of(field), depth, first);
      first = false;
      if (field_form(field) == FieldForm::kMap) {
        render_map(message, field, depth + 1);
      } else if (field.is_repeated()) {
        render_list(message, field, depth + 1);
      } else if (field_form(field) == FieldForm::kMessage) {
        open('{');
        render_message(reflection.GetMessage(message, &field), depth + 1);
        close('}', depth);
      } else {
        out_.append(" ").append(shown_value(message, field, -1));
      }
    }
  }

  std::string shown_value(const Message& message, const FieldDescriptor& field, int index) const {
    const std::string text = value_text(message, field, index);
    return scalar(field, redact_ && rules_of(field).secret() ? redacted : text);
  }

  // A scalar without a default that holds its type's zero was never set.
  static bool is_shown(const Message& message, const FieldDescriptor& field) {
    const google::protobuf::Reflection& reflection = *message.GetReflection();
    if (field.is_repeated()) return reflection.FieldSize(message, &field) > 0;
    switch (field_form(field)) {
      case FieldForm::kMessage:
        return reflection.HasField(message, &field) && has_anything(message, field);
      case FieldForm::kDuration:
        return reflection.HasField(message, &field);
      default:
        return !rules_of(field).default_().empty() || reflection.HasField(message, &field);
    }
  }

  // An always-there section without content is noise; an only_if_present one says something.
  static bool has_anything(const Message& message, const FieldDescriptor& field) {
    if (rules_of(field).only_if_present()) return true;
    const Message& child = message.GetReflection()->GetMessage(message, &field);
    const MessageDescriptor& type = *child.GetDescriptor();
    for (int i = 0; i < type.field_count(); ++i) {
      if (is_shown(child, *type.field(i))) return true;
    }
    return false;
  }

  void render_map(const Message& message, const FieldDescriptor& field, int depth) {
    const google::protobuf::Reflection& reflection = *message.GetReflection();
    const MessageDescriptor& entry_type = *field.message_type();
    std::map<std::string, std::string> sorted;
    for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
      const Message& entry = reflection.GetRepeatedMessage(message, &field, i);
      sorted[value_text(entry, *entry_type.map_key())] =
          redact_ && rules_of(field).secret() ? std::string(redacted)
                                              : value_text(entry, *entry_type.map_value());
    }
    open('{');
    bool first = true;
    for (const auto& [name, value] : sorted) {
      key(name, depth, first);
      first = false;
      out_.append(" ").append(scalar(*entry_type.map_value(), value));
    }
    close('}', depth - 1);
  }

  void render_list(const Message& message, const FieldDescriptor& field, int depth) {
    const google::protobuf::Reflection& reflection = *message.GetReflection();
    const int size = reflection.FieldSize(message, &field);
    if (field_form(field) != FieldForm::kMessage) {
      out_ += " [";
      for (int i = 0; i < size; ++i) {
        if (i > 0) out_ += ", ";
        out_ += shown_value(message, field, i);
      }
      out_ += ']';
      return;
    }
    open('[');
    for (int i = 0; i < size; ++i) {
      new_line(depth, i == 0);
      out_ += json_ ? "{" : "- ";
      after_dash_ = !json_;
      render_message(reflection.GetRepeatedMessage(message, &field, i), depth + 1);
      after_dash_ = false;
      if (json_) close('}', depth);
    }
    close(']', depth - 1);
  }

  void open(char bracket) {
    if (json_) out_.append(" ").append(1, bracket);
  }
  void close(char bracket, int depth) {
    if (!json_) return;
    // "{}" for what is empty.
    if (out_.back() != '{' && out_.back() != '[') {
      out_.append("\n").append(static_cast<size_t>(depth + 1) * 2, ' ');
    }
    out_ += bracket;
  }

  bool json_;
  bool redact_;
  bool after_dash_ = false;
  std::string out_;
};

}  // namespace

std::string render_yaml(const Config& config, const RenderOptions& options) {
  return Renderer(false, options.redact).render(config);
}

std::string render_json(const Config& config, const RenderOptions& options) {
  return Renderer(true, options.redact).render(config);
}

}  // namespace remora::config
