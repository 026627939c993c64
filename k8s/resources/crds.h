// CustomResourceDefinitions made from k8s/resources/resources.proto. Pure.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include <google/protobuf/descriptor.h>

#include "k8s/inject/json_view.h"

namespace remora::k8s {

inline constexpr std::string_view resource_group = "remora.dev";
inline constexpr std::string_view resource_version = "v1alpha1";

struct PrinterColumn {
  std::string_view name;
  std::string_view type;  // string, integer, date
  std::string_view path;  // ".status.phase"
};

struct ResourceKind {
  std::string_view kind;
  std::string_view plural;
  std::string_view short_name;
  const google::protobuf::Descriptor* message;
  std::span<const PrinterColumn> columns;
};

std::span<const ResourceKind> resource_kinds();

// One apiextensions.k8s.io/v1 CustomResourceDefinition.
Json resource_definition(const ResourceKind& kind);
// The structural schema of one message.
Json resource_schema(const google::protobuf::Descriptor& message);
// All of them, as one file of YAML documents.
std::string resource_definitions_yaml();

}  // namespace remora::k8s
