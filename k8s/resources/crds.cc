#include "k8s/resources/crds.h"

#include <array>
#include <nlohmann/json.hpp>

#include "config/schema.h"
#include "k8s/inject/yaml_json.h"
#include "k8s/resources/resources.pb.h"

namespace remora::k8s {
namespace {

using config::FieldForm;
using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

// The API server estimates what a rule costs at worst: where nothing is bounded it refuses them.
constexpr int list_items_max = 64;
constexpr int map_entries_max = 64;
constexpr int text_characters_max = 4096;
constexpr int short_text_characters_max = 256;

constexpr std::array<PrinterColumn, 7> policy_columns = {{
    {"Pods", "integer", ".status.pods"},
    {"Ready", "integer", ".status.readyPods"},
    {"Incidents", "integer", ".status.openIncidents"},
    {"Outdated", "integer", ".status.outdatedPods"},
    {"Paused", "boolean", ".spec.paused"},
    {"Hold", "string", ".status.hold"},
    {"Age", "date", ".metadata.creationTimestamp"},
}};

constexpr std::array<PrinterColumn, 6> incident_columns = {{
    {"Pod", "string", ".spec.pod.name"},
    {"Fault", "string", ".spec.fault"},
    {"Phase", "string", ".status.phase"},
    {"Node", "string", ".spec.pod.node"},
    {"Recovery", "integer", ".status.recoverySeconds"},
    {"Age", "date", ".metadata.creationTimestamp"},
}};

constexpr std::array<PrinterColumn, 6> snapshot_columns = {{
    {"Pod", "string", ".status.pod.name"},
    {"Agent", "string", ".spec.container"},
    {"Snapshots", "integer", ".status.count"},
    {"Latest", "string", ".status.latest"},
    {"Request", "string", ".status.request.state"},
    {"Age", "date", ".metadata.creationTimestamp"},
}};

Json schema_of_message(const Descriptor& message);
Json schema_of_settings(const Descriptor& message);

Json number(const FieldDescriptor& field, const std::string& text) {
  const auto value = config::parse_value(field, text, false);
  return value ? Json(std::get<int64_t>(*value)) : Json();
}

Json integer_schema(const FieldDescriptor& field) {
  const config::FieldRules& rules = config::rules_of(field);
  Json schema = {
      {"type", "integer"},
      {"format", field.cpp_type() == FieldDescriptor::CPPTYPE_INT32 ? "int32" : "int64"}};
  if (!rules.min().empty()) schema["minimum"] = number(field, rules.min());
  if (!rules.max().empty()) schema["maximum"] = number(field, rules.max());
  if (!rules.default_().empty()) schema["default"] = number(field, rules.default_());
  return schema;
}

// Both are read by Go's rules there and by ours here; what is common to both is written.
Json duration_schema(const FieldDescriptor& field) {
  const config::FieldRules& rules = config::rules_of(field);
  Json schema = {{"type", "string"}, {"format", "duration"}, {"maxLength", 32}};
  if (!rules.default_().empty()) schema["default"] = rules.default_();
  if (rules.min().empty() || rules.max().empty()) return schema;
  schema["x-kubernetes-validations"] =
      Json::array({{{"rule", "self >= duration('" + rules.min() + "') && self <= duration('" +
                                 rules.max() + "')"},
                    {"message", "must be from " + rules.min() + " to " + rules.max()}}});
  return schema;
}

Json bytes_schema(const FieldDescriptor& field) {
  Json schema = {{"x-kubernetes-int-or-string", true},
                 {"pattern", "^[0-9]+(KiB|MiB|GiB|TiB)?$"},
                 {"maxLength", 32}};
  if (!config::rules_of(field).default_().empty()) {
    schema["default"] = config::rules_of(field).default_();
  }
  return schema;
}

Json text_schema(const FieldDescriptor& field) {
  const config::FieldRules& rules = config::rules_of(field);
  Json schema = {{"type", "string"}};
  if (field.options().GetExtension(v1alpha1::time)) {
    schema["format"] = "date-time";
    return schema;
  }
  if (!rules.default_().empty() && !field.is_repeated()) schema["default"] = rules.default_();
  if (rules.one_of().empty()) {
    // What the reader refuses, too: nothing is written of an empty text.
    if (rules.required()) schema["minLength"] = 1;
    schema["maxLength"] = text_characters_max;
  } else {
    schema["enum"] = Json::array();
    for (const std::string& choice : rules.one_of()) schema["enum"].push_back(choice);
  }
  return schema;
}

Json item_schema(const FieldDescriptor& field) {
  switch (config::field_form(field)) {
    case FieldForm::kMessage:
      return field.options().GetExtension(v1alpha1::settings)
                 ? schema_of_settings(*field.message_type())
                 : schema_of_message(*field.message_type());
    case FieldForm::kMap:
      return {
          {"type", "object"},
          {"maxProperties", map_entries_max},
          {"additionalProperties", {{"type", "string"}, {"maxLength", short_text_characters_max}}}};
    case FieldForm::kDuration:
      return duration_schema(field);
    case FieldForm::kBytes:
      return bytes_schema(field);
    case FieldForm::kInteger:
      return integer_schema(field);
    case FieldForm::kBool: {
      Json schema = {{"type", "boolean"}};
      if (!config::rules_of(field).default_().empty()) {
        schema["default"] = config::rules_of(field).default_() == "true";
      }
      return schema;
    }
    case FieldForm::kString:
      return text_schema(field);
  }
  return {};
}

Json field_schema(const FieldDescriptor& field) {
  const config::FieldRules& rules = config::rules_of(field);
  Json schema;
  if (!rules.help().empty()) schema["description"] = rules.help();
  if (field.is_repeated() && !field.is_map()) {
    schema["type"] = "array";
    if (rules.required()) schema["minItems"] = 1;
    schema["maxItems"] = list_items_max;
    schema["items"] = item_schema(field);
    schema["x-kubernetes-list-type"] = "atomic";
    return schema;
  }
  schema.update(item_schema(field));
  // So that the defaults inside take effect where the section isn't written.
  const bool is_section = config::field_form(field) == FieldForm::kMessage;
  if (is_section && !rules.only_if_present() && !rules.required())
    schema["default"] = Json::object();
  return schema;
}

Json schema_of_message(const Descriptor& message) {
  Json schema = {{"type", "object"}};
  Json required = Json::array();
  Json properties = Json::object();
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    properties[config::key_of(field)] = field_schema(field);
    if (config::rules_of(field).required()) required.push_back(config::key_of(field));
  }
  if (!required.empty()) schema["required"] = std::move(required);
  schema["properties"] = std::move(properties);
  const int rules = message.options().ExtensionSize(v1alpha1::validations);
  for (int i = 0; i < rules; ++i) {
    const v1alpha1::Validation& validation =
        message.options().GetExtension(v1alpha1::validations, i);
    schema["x-kubernetes-validations"].push_back(
        {{"rule", validation.rule()}, {"message", validation.message()}});
  }
  return schema;
}

// What is not written must stay so.
void remove_defaults(Json& schema) {
  schema.erase("default");
  if (const auto items = schema.find("items"); items != schema.end()) remove_defaults(*items);
  const auto properties = schema.find("properties");
  if (properties == schema.end()) return;
  for (auto& [name, inner] : properties->items()) remove_defaults(inner);
}

Json schema_of_settings(const Descriptor& message) {
  Json properties = Json::object();
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    const std::string& key = config::key_of(field);
    if (!config::rules_of(field).annotation().empty()) {
      if (config::rules_of(field).annotation() == "inject") continue;
      properties[key] = field_schema(field);
      remove_defaults(properties[key]);
    } else if (config::field_form(field) == FieldForm::kMessage && !field.is_repeated()) {
      Json section = schema_of_settings(*field.message_type());
      if (section["properties"].empty()) continue;
      section["description"] = config::rules_of(field).help();
      properties[key] = std::move(section);
    }
  }
  return {{"type", "object"}, {"properties", std::move(properties)}};
}

Json version_of(const ResourceKind& kind) {
  Json columns = Json::array();
  for (const PrinterColumn& column : kind.columns) {
    columns.push_back({{"name", column.name}, {"type", column.type}, {"jsonPath", column.path}});
  }
  return {{"name", resource_version},
          {"served", true},
          {"storage", true},
          {"subresources", {{"status", Json::object()}}},
          {"additionalPrinterColumns", std::move(columns)},
          {"schema", {{"openAPIV3Schema", resource_schema(*kind.message)}}}};
}

}  // namespace

std::span<const ResourceKind> resource_kinds() {
  static const std::array<ResourceKind, 3> kinds = {{
      {"HealingPolicy", "healingpolicies", "hp", v1alpha1::HealingPolicy::descriptor(),
       policy_columns},
      {"Incident", "incidents", "inc", v1alpha1::Incident::descriptor(), incident_columns},
      {"AgentSnapshot", "agentsnapshots", "asnap", v1alpha1::AgentSnapshot::descriptor(),
       snapshot_columns},
  }};
  return kinds;
}

Json resource_schema(const Descriptor& message) { return schema_of_message(message); }

Json resource_definition(const ResourceKind& kind) {
  std::string singular(kind.kind);
  for (char& c : singular) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  const std::string plural(kind.plural);
  return {{"apiVersion", "apiextensions.k8s.io/v1"},
          {"kind", "CustomResourceDefinition"},
          {"metadata",
           {{"name", plural + "." + std::string(resource_group)},
            {"labels", {{"app.kubernetes.io/name", "remora"}}}}},
          {"spec",
           {{"group", resource_group},
            {"scope", "Namespaced"},
            {"names",
             {{"kind", kind.kind},
              {"listKind", std::string(kind.kind) + "List"},
              {"plural", plural},
              {"singular", singular},
              {"shortNames", Json::array({kind.short_name})},
              {"categories", Json::array({"remora"})}}},
            {"versions", Json::array({version_of(kind)})}}}};
}

std::string resource_definitions_yaml() {
  std::string text =
      "# Made by `remora operator crds` from k8s/resources/resources.proto: change it there.\n";
  bool first = true;
  for (const ResourceKind& kind : resource_kinds()) {
    if (!std::exchange(first, false)) text += "---\n";
    text += json_to_yaml(resource_definition(kind));
  }
  return text;
}

}  // namespace remora::k8s
