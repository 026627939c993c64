#include "k8s/inject/manifest.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "config/load.h"
#include "config/scalar.h"
#include "k8s/inject/gate.h"
#include "k8s/inject/yaml_json.h"

namespace remora::k8s {
namespace {

struct PodKind {
  std::string_view api_group;  // "" is core
  std::string_view kind;
  std::string_view pointer;  // to the pod inside
};
constexpr std::array<PodKind, 9> pod_kinds{{
    {"", "Pod", ""},
    {"", "PodTemplate", "/template"},
    {"", "ReplicationController", "/spec/template"},
    {"apps", "Deployment", "/spec/template"},
    {"apps", "StatefulSet", "/spec/template"},
    {"apps", "DaemonSet", "/spec/template"},
    {"apps", "ReplicaSet", "/spec/template"},
    {"batch", "Job", "/spec/template"},
    {"batch", "CronJob", "/spec/jobTemplate/spec/template"},
}};

const PodKind* kind_of(const Json& object) {
  const std::string version = text_of(object, "apiVersion");
  const size_t slash = version.find('/');
  const std::string group = slash == std::string::npos ? std::string() : version.substr(0, slash);
  const std::string kind = text_of(object, "kind");
  for (const PodKind& known : pod_kinds) {
    if (known.kind == kind && known.api_group == group) return &known;
  }
  return nullptr;
}

bool is_list(const Json& object) {
  return text_of(object, "apiVersion") == "v1" && text_of(object, "kind").ends_with("List") &&
         find_array(object, "items") != nullptr;
}

std::string full_name(const Json& object) {
  const Json* metadata = find_object(object, "metadata");
  std::string name = text_of(object, "kind");
  if (metadata == nullptr) return name;
  std::string own = text_of(*metadata, "name");
  if (own.empty()) own = text_of(*metadata, "generateName");
  const std::string space = text_of(*metadata, "namespace");
  if (own.empty()) return name;
  return name + " " + (space.empty() ? own : space + "/" + own);
}

std::string namespace_of(const Json& object, const InjectOptions& options) {
  const Json* metadata = find_object(object, "metadata");
  const std::string own = metadata == nullptr ? std::string() : text_of(*metadata, "namespace");
  return own.empty() ? options.namespace_name : own;
}

// A core/v1 Service, as far as it matters to a pod that is its only one.
struct ServiceFacts {
  std::string name;
  std::string namespace_name;
  config::Annotations selector;
  bool publishes_unready = false;
};

std::optional<ServiceFacts> service_of(const Json& object, const InjectOptions& options) {
  if (text_of(object, "apiVersion") != "v1" || text_of(object, "kind") != "Service") return {};
  const Json* metadata = find_object(object, "metadata");
  const Json* spec = find_object(object, "spec");
  const Json* selector = spec == nullptr ? nullptr : find_object(*spec, "selector");
  if (metadata == nullptr || selector == nullptr || selector->empty()) return {};
  ServiceFacts facts{.name = text_of(*metadata, "name"),
                     .namespace_name = namespace_of(object, options),
                     .selector = {},
                     .publishes_unready = bool_of(*spec, "publishNotReadyAddresses") == true};
  for (const auto& [key, value] : selector->items()) {
    if (value.is_string()) facts.selector[key] = value.get<std::string>();
  }
  return facts;
}

// An injected object of which there is one pod.
struct OnlyPod {
  size_t report = 0;  // in ManifestResult::objects
  std::string namespace_name;
  config::Annotations labels;
};

bool selects(const ServiceFacts& service, const OnlyPod& pod) {
  return service.namespace_name == pod.namespace_name &&
         std::ranges::all_of(service.selector, [&](const auto& wanted) {
           const auto label = pod.labels.find(wanted.first);
           return label != pod.labels.end() && label->second == wanted.second;
         });
}

struct Document {
  std::string_view separator;  // the line "---" before it, and what else was there
  std::string_view text;
};

// A line of "---", or one that continues after a blank, begins a document (YAML 1.2.2
// section 9.1.2); neither can occur at the start of a line inside one.
bool is_separator(std::string_view line) {
  return line.starts_with("---") && (line.size() == 3 || line[3] == ' ' || line[3] == '\t' ||
                                     line[3] == '\r' || line[3] == '\n');
}

std::vector<Document> split_documents(std::string_view text) {
  std::vector<Document> documents{{text.substr(0, 0), text}};
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t newline = text.find('\n', at);
    const size_t next = newline == text.npos ? text.size() : newline + 1;
    if (is_separator(text.substr(at, next - at))) {
      documents.back().text = text.substr(begin, at - begin);
      // "--- # comment" is all separator; "--- {a: 1}" begins the document.
      const std::string_view rest = text.substr(at + 3, next - at - 3);
      const size_t content = rest.find_first_not_of(" \t\r\n");
      const bool all = content == rest.npos || rest[content] == '#';
      begin = all ? next : at + 3;
      documents.push_back({text.substr(at, begin - at), text.substr(begin)});
    }
    at = next;
  }
  return documents;
}

class ManifestInjector {
 public:
  explicit ManifestInjector(const InjectOptions& options) : options_(options) {}

  ManifestResult run(std::string_view text) {
    if (text.size() > manifest_text_bytes_max) {
      result_.problems.push_back("larger than " + std::to_string(manifest_text_bytes_max) +
                                 " bytes; split it");
      return std::move(result_);
    }
    size_t number = 0;
    for (const Document& document : split_documents(text)) {
      // What stands before the first separator is a document only if something is there.
      if (document.separator.empty() && is_blank(document.text)) {
        result_.text += document.text;
        continue;
      }
      place_ = "document " + std::to_string(++number);
      result_.text += document.separator;
      inject_document(document.text);
    }
    warn_of_only_pods();
    return std::move(result_);
  }

 private:
  static bool is_blank(std::string_view text) {
    while (!text.empty()) {
      const size_t end = text.find('\n');
      const std::string_view line = text.substr(0, end);
      const size_t content = line.find_first_not_of(" \t\r");
      if (content != line.npos && line[content] != '#') return false;
      text.remove_prefix(end == text.npos ? text.size() : end + 1);
    }
    return true;
  }

  void inject_document(std::string_view text) {
    if (is_blank(text)) {
      result_.text += text;
      return;
    }
    std::expected<Json, config::YamlError> parsed = parse(text);
    if (!parsed) {
      const config::YamlError& error = parsed.error();
      std::string place = place_;
      if (error.line > 0) place += " line " + std::to_string(error.line);
      result_.problems.push_back(place + ": " + error.message + "; " + error.mend);
      return;
    }
    if (!inject_object(*parsed, place_)) {
      result_.text += text;
      return;
    }
    if (!result_.text.empty() && !result_.text.ends_with('\n')) result_.text += '\n';
    result_.text += json_to_yaml(*parsed);
  }

  // JSON may be indented by tabs, which YAML refuses.
  static std::expected<Json, config::YamlError> parse(std::string_view text) {
    const size_t content = text.find_first_not_of(" \t\r\n");
    if (text[content] == '{') {
      const auto limit_depth = [](int depth, Json::parse_event_t, Json&) {
        return depth <= static_cast<int>(manifest_depth_max);
      };
      Json json = Json::parse(text, limit_depth, false);
      if (json.is_object()) return json;
    }
    return yaml_to_json(text);
  }

  // True when object was changed.
  bool inject_object(Json& object, const std::string& place) {
    if (++objects_ > manifest_objects_max) {
      if (objects_ == manifest_objects_max + 1) {
        result_.problems.push_back(place + ": more than " + std::to_string(manifest_objects_max) +
                                   " objects; split the file");
      }
      return false;
    }
    if (is_list(object)) {
      bool changed = false;
      Json& items = object["items"];
      for (size_t i = 0; i < items.size(); ++i) {
        changed |= inject_object(items[i], place + " item " + std::to_string(i + 1));
      }
      return changed;
    }
    if (std::optional<ServiceFacts> service = service_of(object, options_)) {
      services_.push_back(*std::move(service));
    }
    const PodKind* kind = kind_of(object);
    if (kind == nullptr) return false;
    return inject_inside(object, *kind, place + " (" + full_name(object) + ")");
  }

  bool inject_inside(Json& object, const PodKind& kind, const std::string& name) {
    const Json::json_pointer pointer{std::string(kind.pointer)};
    if (!object.contains(pointer) || !object[pointer].is_object()) {
      result_.problems.push_back(name + ": has no pod at " + std::string(kind.pointer) +
                                 "; write its template there");
      return false;
    }
    Json& pod = object[pointer];
    ObjectReport report{name, inject_pod(pod, options_for(object)), {}};
    bool changed = false;
    if (const auto* problems = std::get_if<config::Problems>(&report.result)) {
      for (const config::Problem& problem : *problems) {
        result_.problems.push_back(name + ": " + config::format_problem(problem));
      }
    } else if (const auto* patch = std::get_if<Patch>(&report.result)) {
      changed = patch->operations > 0;
      if (changed) pod = apply_patch(pod, *patch);
      warn_of_shared_claim(object, pod, report);
      note_only_pod(object, kind, pod);
    }
    result_.objects.push_back(std::move(report));
    return changed;
  }

  // A template names no namespace; its object does.
  InjectOptions options_for(const Json& object) const {
    InjectOptions options = options_;
    options.namespace_name = namespace_of(object, options_);
    const Json* spec = find_object(object, "spec");
    const Json* claims = spec == nullptr ? nullptr : find_array(*spec, "volumeClaimTemplates");
    if (claims == nullptr || text_of(object, "kind") != "StatefulSet") return options;
    for (const Json& claim : *claims) {
      if (const Json* metadata = find_object(claim, "metadata")) {
        options.later_volumes.push_back(text_of(*metadata, "name"));
      }
    }
    return options;
  }

  static void warn_of_shared_claim(const Json& object, const Json& pod, ObjectReport& report) {
    const Json* spec = find_object(object, "spec");
    const Json* metadata = find_object(pod, "metadata");
    if (spec == nullptr || metadata == nullptr || integer_of(*spec, "replicas").value_or(1) <= 1) {
      return;
    }
    const Json* annotations = find_object(*metadata, "annotations");
    if (annotations == nullptr || text_of(*annotations, "remora.dev/snapshot-claim").empty())
      return;
    report.warnings.emplace_back(
        "its replicas would share one remora.dev/snapshot-claim; give each a store of its own: a "
        "StatefulSet with volumeClaimTemplates and remora.dev/snapshot-volume");
  }

  void note_only_pod(const Json& object, const PodKind& kind, const Json& pod) {
    const Json* spec = find_object(object, "spec");
    const bool has_replicas =
        kind.pointer == "/spec/template" && kind.api_group != "batch" && kind.kind != "DaemonSet";
    if (spec == nullptr || !has_replicas || integer_of(*spec, "replicas").value_or(1) != 1) return;
    only_pods_.push_back({.report = result_.objects.size(),
                          .namespace_name = namespace_of(object, options_),
                          .labels = metadata_map(pod, "labels")});
  }

  // Only a Service can help: a pod is Ready when all its containers are, and a readiness gate can
  // only ask for more.
  void warn_of_only_pods() {
    for (const OnlyPod& pod : only_pods_) {
      for (const ServiceFacts& service : services_) {
        if (service.publishes_unready || !selects(service, pod)) continue;
        result_.objects[pod.report].warnings.push_back(
            "it is the only pod of Service " + service.name +
            ": while its container is started again Kubernetes takes it out of there, and new "
            "callers are refused; with publishNotReadyAddresses: true in the Service Remora holds "
            "them until the agent is back");
      }
    }
  }

  const InjectOptions& options_;
  ManifestResult result_;
  std::vector<ServiceFacts> services_;
  std::vector<OnlyPod> only_pods_;
  std::string place_;
  size_t objects_ = 0;
};

}  // namespace

ManifestResult inject_manifests(std::string_view text, const InjectOptions& options) {
  return ManifestInjector(options).run(text);
}

}  // namespace remora::k8s
