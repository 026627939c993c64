#include "k8s/resources/settings.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

namespace remora::k8s {
namespace {

// Asked of each pod by itself, and no business of a policy.
constexpr std::string_view inject_name = "inject";

std::string_view section_of(const config::AnnotationEntry& entry) {
  return entry.pod_only ? "injection" : "sidecar";
}

// Null when it isn't there.
const Json* at_path(const Json& root, std::string_view path) {
  const Json* here = &root;
  while (here != nullptr) {
    const size_t dot = path.find('.');
    here = here->is_object() ? find(*here, path.substr(0, dot)) : nullptr;
    if (dot == path.npos) return here;
    path.remove_prefix(dot + 1);
  }
  return nullptr;
}

std::string text_of_value(const Json& value) {
  return value.is_string() ? value.get<std::string>()
                           : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// Said of the annotation, meant of the policy.
void name_place(config::Problem& problem) {
  for (const config::AnnotationEntry& entry : config::annotation_vocabulary()) {
    if (problem.file != "annotation " + std::string(config::annotation_prefix) + entry.name) {
      continue;
    }
    problem.file = "spec." + std::string(section_of(entry)) + "." + entry.path;
    problem.path.clear();
    return;
  }
}

}  // namespace

PolicySettings read_settings(const Json& spec) {
  PolicySettings settings;
  for (const config::AnnotationEntry& entry : config::annotation_vocabulary()) {
    const Json* section = find_object(spec, section_of(entry));
    if (section == nullptr || entry.name == inject_name) continue;
    const Json* value = at_path(*section, entry.path);
    if (value == nullptr || value->is_null()) continue;
    settings.annotations.emplace(std::string(config::annotation_prefix) + entry.name,
                                 text_of_value(*value));
  }
  config::Config unused;
  settings.problems = config::check_annotation_values(settings.annotations, {}, unused);
  std::ranges::move(config::pod_settings(settings.annotations).problems,
                    std::back_inserter(settings.problems));
  for (config::Problem& problem : settings.problems) name_place(problem);
  return settings;
}

}  // namespace remora::k8s
