#include "k8s/kubectl/explain.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "config/annotations.h"
#include "config/load_with_origins.h"
#include "config/pod.h"
#include "config/render.h"
#include "config/scalar.h"
#include "k8s/healing/facts.h"
#include "k8s/healing/plan.h"
#include "k8s/healing/records.h"
#include "k8s/inject/gate.h"
#include "k8s/inject/inject.h"
#include "k8s/kubectl/table.h"
#include "k8s/resources/message_json.h"
#include "k8s/resources/selector.h"
#include "k8s/watch/object.h"

namespace remora::k8s {
namespace {

constexpr const char* by_default = "default";

std::string value_of(const Json& value) {
  return value.is_string() ? value.get<std::string>()
                           : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

struct Leaf {
  std::string path;
  std::string value;
};

// Lists are one value each: they are replaced as a whole.
void collect_leaves(const Json& object, const std::string& prefix, std::vector<Leaf>& out) {
  for (const auto& [key, value] : object.items()) {
    const std::string path = prefix + config::path_segment(key);
    if (value.is_object()) {
      collect_leaves(value, path + ".", out);
    } else {
      out.push_back({path, value_of(value)});
    }
  }
}

struct ChosenPolicy {
  PolicyRecord record;
  const Json* object = nullptr;
};

// The first one by name of those that select the pod, as the operator chooses.
std::optional<ChosenPolicy> choose_policy(const std::vector<Json>& policies,
                                          const PodFacts& facts) {
  std::optional<ChosenPolicy> chosen;
  for (const Json& object : policies) {
    Result<PolicyRecord> policy = read_policy(object);
    if (!policy || !selects(policy->spec.selector(), facts.labels)) continue;
    if (chosen && chosen->record.name < policy->name) continue;
    chosen = ChosenPolicy{std::move(*policy), &object};
  }
  return chosen;
}

// The operator tells a sidecar with a link what its policy says by now.
config::Annotations annotations_by_now(const config::Annotations& at_birth,
                                       const config::Injected& injected,
                                       const std::optional<ChosenPolicy>& policy) {
  if (!injected.has_link() || (policy && !policy->record.values)) return at_birth;
  return config::with_policy(at_birth, policy ? *policy->record.values : config::PolicyValues{});
}

class PodExplainer {
 public:
  PodExplainer(const ExplainInput& input, config::Injected injected, const Object& object)
      : input_(input),
        injected_(std::move(injected)),
        facts_(read_pod(object)),
        policy_(choose_policy(input.policies, facts_)),
        at_birth_(metadata_map(input.pod, "annotations")),
        by_now_(annotations_by_now(at_birth_, injected_, policy_)) {
    out_.pod = object.key();
    out_.version = injected_.version();
  }

  Explanation explain() {
    add_words();
    add_pod_settings();
    for (const config::InjectedAgent& agent : injected_.agents()) add_agent(agent);
    add_policy();
    return std::move(out_);
  }

 private:
  // What the injection says when it looks at the pod again.
  void add_words() {
    InjectOptions options{.image = sidecar_image(), .product_version = injected_.version()};
    options.namespace_name = facts_.namespace_name;
    options.inject_by_default = true;
    const InjectResult result = inject_pod(input_.pod, options);
    if (const auto* patch = std::get_if<Patch>(&result)) {
      out_.injected = patch->notes;
      std::ranges::copy(patch->warnings, std::back_inserter(out_.injected));
    } else if (const auto* problems = std::get_if<config::Problems>(&result)) {
      for (const config::Problem& problem : *problems) add_problem(problem);
    }
  }

  std::string sidecar_image() const {
    const Json* spec = find_object(input_.pod, "spec");
    const Json* first = spec == nullptr ? nullptr : find_array(*spec, "initContainers");
    const Json* sidecar = find_named(first, "name", sidecar_container);
    return sidecar == nullptr ? std::string() : text_of(*sidecar, "image");
  }

  void add_problem(const config::Problem& problem) {
    const std::string text = config::format_problem(problem);
    if (std::ranges::find(out_.problems, text) == out_.problems.end()) {
      out_.problems.push_back(text);
    }
  }

  // Those are settled when the pod is made.
  void add_pod_settings() {
    SettingGroup group{.title = "pod", .settings = {}};
    for (const config::AnnotationEntry& entry : config::annotation_vocabulary()) {
      if (!entry.pod_only) continue;
      const std::string name = std::string(config::annotation_prefix) + entry.name;
      const auto written = at_birth_.find(name);
      const std::string& standard = config::rules_of(*entry.field).default_();
      if (written != at_birth_.end()) {
        const std::string from = whose("annotation " + name, config::applied_policy(at_birth_));
        group.settings.push_back({entry.path, written->second, from, false});
      } else if (!standard.empty()) {
        group.settings.push_back({entry.path, standard, by_default, true});
      }
    }
    out_.groups.push_back(std::move(group));
  }

  void add_agent(const config::InjectedAgent& agent) {
    // As the sidecar puts them together.
    std::vector<config::Override> overrides = config::annotation_overrides(by_now_, agent.name());
    const auto own = std::ranges::stable_partition(overrides, &config::Override::is_default);
    std::vector<config::Override> of_pod = config::pod_overrides(injected_, agent);
    overrides.insert(own.begin(), std::make_move_iterator(of_pod.begin()),
                     std::make_move_iterator(of_pod.end()));
    config::Origins origins;
    const config::LoadResult loaded =
        config::load_with_origins(input_.config_file.value_or(""), file_name(), overrides, origins);
    for (const config::Problem& problem : loaded.problems) add_problem(problem);
    const Json values = Json::parse(config::render_json(loaded.config), nullptr, false);
    std::vector<Leaf> leaves;
    if (values.is_object()) collect_leaves(values, "", leaves);
    SettingGroup group{.title = "agent " + agent.name(), .settings = {}};
    for (const Leaf& leaf : leaves) {
      // Not that of a section around it, which somebody wrote without this key.
      const config::Origin* origin = origins.is_set(leaf.path) ? origins.find(leaf.path) : nullptr;
      group.settings.push_back({leaf.path, leaf.value,
                                origin == nullptr ? std::string(by_default) : words_for(*origin),
                                origin == nullptr});
    }
    add_probes(agent, loaded, group);
    out_.groups.push_back(std::move(group));
  }

  // Those of the container itself, which Remora makes in the kubelet's place.
  static void add_probes(const config::InjectedAgent& agent, const config::LoadResult& loaded,
                         SettingGroup& group) {
    const auto add = [&](const char* name, bool injected, bool configured) {
      if (!injected || configured) return;
      group.settings.push_back({name, "the container's own", "the pod's manifest", false});
    };
    add("startupProbe", agent.has_startup_probe(), loaded.config.has_startup_probe());
    add("livenessProbe", agent.has_liveness_probe(), loaded.config.has_liveness_probe());
    add("readinessProbe", agent.has_readiness_probe(), loaded.config.has_readiness_probe());
  }

  std::string file_name() const { return "ConfigMap " + config_map_of(input_.pod); }

  // An annotation that the webhook wrote is the policy's word.
  static std::string whose(const std::string& place, const config::AppliedPolicy& applied) {
    constexpr std::string_view mark = "annotation remora.dev/";
    if (!place.starts_with(mark)) return place;
    const std::string name = place.substr(mark.size());
    const bool is_policys = std::ranges::find(applied.settings(), name) != applied.settings().end();
    return is_policys ? "HealingPolicy " + applied.name() : place;
  }

  std::string words_for(const config::Origin& origin) const {
    if (origin.file == config::injected_annotation) return "the injection";
    if (origin.line == 0 || origin.file.starts_with("annotation")) {
      return whose(origin.file, config::applied_policy(by_now_));
    }
    return origin.file + ", line " + std::to_string(origin.line);
  }

  void add_policy() {
    if (!policy_) return;
    const auto& [record, object] = *policy_;
    SettingGroup group{.title = "HealingPolicy " + record.name, .settings = {}};
    std::vector<Leaf> leaves;
    collect_leaves(write_message(record.spec), "", leaves);
    const Json* written = find_object(*object, "spec");
    for (const Leaf& leaf : leaves) {
      const bool is_default = written == nullptr || !is_written(*object, leaf.path);
      group.settings.push_back(
          {leaf.path, leaf.value, is_default ? by_default : group.title, is_default});
    }
    if (facts_.paused) {
      group.settings.push_back(
          {"paused", "true", "annotation " + std::string(config::pause_annotation), false});
    }
    out_.groups.push_back(std::move(group));
  }

  // The API server fills defaults in; what somebody wrote is told by metadata.managedFields, where
  // there are any.
  static bool is_written(const Json& object, const std::string& path) {
    const Json* metadata = find_object(object, "metadata");
    const Json* managers = metadata == nullptr ? nullptr : find_array(*metadata, "managedFields");
    if (managers == nullptr || managers->empty()) {
      const Json* spec = find_object(object, "spec");
      return spec != nullptr && has_path(*spec, path, "");
    }
    return std::ranges::any_of(*managers, [&](const Json& manager) {
      const Json* fields = find_object(manager, "fieldsV1");
      const Json* spec = fields == nullptr ? nullptr : find(*fields, "f:spec");
      return spec != nullptr && has_path(*spec, path, "f:");
    });
  }

  static bool has_path(const Json& object, const std::string& path, const std::string& mark) {
    const size_t dot = path.find('.');
    const Json* inner = find(object, mark + path.substr(0, dot));
    if (inner == nullptr) return false;
    // A map or list that is owned as a whole has nothing below it.
    if (dot == std::string::npos || (!mark.empty() && inner->empty())) return true;
    return has_path(*inner, path.substr(dot + 1), mark);
  }

  const ExplainInput& input_;
  const config::Injected injected_;
  const PodFacts facts_;
  const std::optional<ChosenPolicy> policy_;
  const config::Annotations at_birth_;
  const config::Annotations by_now_;
  Explanation out_;
};

std::string as_json(const Explanation& explanation) {
  Json out{{"pod", explanation.pod},
           {"remoraVersion", explanation.version},
           {"injected", explanation.injected},
           {"problems", explanation.problems},
           {"settings", Json::object()}};
  for (const SettingGroup& group : explanation.groups) {
    Json& list = out["settings"][group.title] = Json::array();
    for (const Setting& setting : group.settings) {
      list.push_back({{"name", setting.name}, {"value", setting.value}, {"from", setting.from}});
    }
  }
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string config_map_of(const Json& pod) {
  const config::Annotations annotations = metadata_map(pod, "annotations");
  const auto named = annotations.find("remora.dev/config-map");
  return named == annotations.end() ? std::string() : named->second;
}

Result<Explanation> explain_pod(const ExplainInput& input) {
  const ObjectPtr object = make_object(input.pod);
  const config::Annotations annotations = metadata_map(input.pod, "annotations");
  const auto mark = annotations.find(config::injected_annotation);
  if (object == nullptr || mark == annotations.end()) {
    return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig,
                      "Remora is not in this pod: label it remora.dev/inject: \"true\" where it is "
                      "made, or its namespace remora.dev/inject=enabled, and let it be made anew");
  }
  Result<config::Injected> injected = config::parse_injected(mark->second);
  if (!injected) return std::unexpected(std::move(injected.error()));
  return PodExplainer(input, std::move(*injected), *object).explain();
}

std::string render_explanation(const Explanation& explanation, Form form, bool all) {
  if (form == Form::kJson) return as_json(explanation);
  std::string out = "pod " + printable(explanation.pod) + ", Remora " +
                    printable(explanation.version) + "\n\nadded to the pod\n";
  for (const std::string& line : explanation.injected) out += "  - " + printable(line) + "\n";
  for (const std::string& line : explanation.problems) out += "  ! " + printable(line) + "\n";
  size_t hidden = 0;
  for (const SettingGroup& group : explanation.groups) {
    std::vector<Row> rows;
    for (const Setting& setting : group.settings) {
      hidden += setting.is_default && !all ? 1 : 0;
      if (setting.is_default && !all) continue;
      rows.push_back({"  " + setting.name, setting.value, setting.from});
    }
    out += "\n" + printable(group.title) + "\n";
    out += rows.empty() ? "  everything has its default\n"
                        : render_table({"  SETTING", "VALUE", "FROM"}, rows);
  }
  if (hidden > 0) {
    out += "\n" + std::to_string(hidden) + " settings have their default; --all shows them too\n";
  }
  return out;
}

}  // namespace remora::k8s
