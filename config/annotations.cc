#include "config/annotations.h"

#include <algorithm>
#include <cctype>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/util/json_util.h>

#include "config/defaults.h"
#include "config/loader.h"
#include "config/origins.h"
#include "config/pod_check.h"
#include "config/validate.h"

namespace remora::config {
namespace {

// Longer names are not compared with known ones.
constexpr size_t similar_name_bytes_max = 64;

std::string_view trim(std::string_view text) {
  static constexpr std::string_view blanks = " \t\r\n";
  const size_t begin = text.find_first_not_of(blanks);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

std::string full_name(std::string_view name) {
  return std::string(annotation_prefix) + std::string(name);
}
std::string origin_of(std::string_view name) { return "annotation " + full_name(name); }

void collect(const MessageDescriptor& type, const std::string& prefix, bool pod_only,
             std::vector<AnnotationEntry>& out) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const std::string path = prefix + key_of(field);
    if (const std::string& name = rules_of(field).annotation(); !name.empty()) {
      out.push_back({name, path, &field, pod_only});
    } else if (field_form(field) == FieldForm::kMessage && !field.is_repeated()) {
      collect(*field.message_type(), path + ".", pod_only, out);
    }
  }
}

const AnnotationEntry* find_entry(std::string_view name) {
  const auto& all = annotation_vocabulary();
  const auto it = std::ranges::find(all, name, &AnnotationEntry::name);
  return it == all.end() ? nullptr : &*it;
}

// "HangWindow", "hang_window" and "hang-window" all fold to "hangwindow".
std::string fold(std::string_view name) {
  std::string folded;
  for (const char c : name) {
    if (c == '_' || c == '-') continue;
    folded += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return folded;
}

// The known name that was probably meant; empty when there is none.
std::string nearest_name(std::string_view name) {
  if (name.size() > similar_name_bytes_max) return {};
  const std::string folded = fold(name);
  std::string best;
  // A third of the letters may be wrong, and never more than three.
  size_t best_distance = std::min<size_t>(3, std::max<size_t>(1, folded.size() / 3)) + 1;
  for (const AnnotationEntry& entry : annotation_vocabulary()) {
    if (fold(entry.path) == folded) return entry.name;
    const size_t distance = edit_distance(folded, fold(entry.name));
    if (distance >= best_distance) continue;
    best_distance = distance;
    best = entry.name;
  }
  return best;
}

std::string joined(std::span<const std::string> names) {
  std::string out;
  for (const std::string& name : names) out.append(out.empty() ? "" : ", ").append(name);
  return out;
}

// What is wrong with the name, without the prefix; nothing when it is known.
std::optional<Complaint> check_name(std::string_view name, std::span<const std::string> agents) {
  if (find_entry(name) != nullptr) return std::nullopt;
  const auto is_it = [name](std::string_view other) {
    return other.substr(annotation_prefix.size()) == name;
  };
  if (std::ranges::any_of(other_annotations, is_it)) return std::nullopt;
  const size_t dot = name.find('.');
  const AnnotationEntry* entry = find_entry(name.substr(0, dot));
  if (entry == nullptr || dot == name.npos) {
    std::string nearest = nearest_name(name);
    if (nearest.empty() && dot != name.npos) nearest = nearest_name(name.substr(0, dot));
    return Complaint{"unknown annotation",
                     nearest.empty() ? "remove it; docs/annotations.md lists the known ones"
                                     : "did you mean " + full_name(nearest) + "?"};
  }
  if (rules_of(*entry->field).pod_wide()) {
    return Complaint{"holds for the whole pod, not for one container",
                     "write " + full_name(entry->name)};
  }
  const std::string_view agent = name.substr(dot + 1);
  if (agents.empty() || std::ranges::find(agents, agent) != agents.end()) return std::nullopt;
  return Complaint{quote(agent) + " is no agent container of this pod",
                   "name one of " + joined(agents) + ", or add it to " + full_name("containers")};
}

std::vector<std::string> split_list(std::string_view text) {
  std::vector<std::string> items;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    if (const std::string_view item = trim(text.substr(0, comma)); !item.empty()) {
      items.emplace_back(item);
    }
    text.remove_prefix(comma == text.npos ? text.size() : comma + 1);
  }
  return items;
}

Override make_override(const AnnotationEntry& entry, std::string_view name,
                       std::string_view value) {
  Override from{.key = entry.path, .values = {}, .origin = origin_of(name)};
  const std::string_view text = trim(value);
  const FieldForm form = field_form(*entry.field);
  const bool is_list = entry.field->is_repeated();
  from.structured = form == FieldForm::kMessage || form == FieldForm::kMap ||
                    (is_list && (text.starts_with('[') || text.starts_with("- ")));
  if (from.structured) {
    from.values.emplace_back(value);
  } else if (!is_list) {
    from.values.emplace_back(text);
  } else {
    from.values = split_list(text);
  }
  return from;
}

// The annotations of one root, what holds for the agent last.
std::vector<Override> overrides_of(const Annotations& annotations, std::string_view agent,
                                   bool pod_only) {
  std::map<std::string_view, std::string_view> ours;  // by their names, without the prefix
  for (auto it = annotations.lower_bound(annotation_prefix);
       it != annotations.end() && it->first.starts_with(annotation_prefix); ++it) {
    ours.emplace(std::string_view(it->first).substr(annotation_prefix.size()), it->second);
  }
  std::vector<Override> overrides;
  if (ours.empty()) return overrides;
  const AppliedPolicy policy = applied_policy(annotations);
  for (const AnnotationEntry& entry : annotation_vocabulary()) {
    if (entry.pod_only != pod_only) continue;
    if (const auto it = ours.find(entry.name); it != ours.end()) {
      overrides.push_back(make_override(entry, entry.name, it->second));
      overrides.back().is_default =
          std::ranges::find(policy.settings(), entry.name) != policy.settings().end();
    }
    if (agent.empty() || rules_of(*entry.field).pod_wide()) continue;
    const std::string name = entry.name + "." + std::string(agent);
    if (const auto it = ours.find(name); it != ours.end()) {
      overrides.push_back(make_override(entry, name, it->second));
    }
  }
  return overrides;
}

// Unknown fields, of a later version, are left out.
template <typename M>
bool from_json(std::string_view json, M& message) {
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  return google::protobuf::util::JsonStringToMessage(
             google::protobuf::StringPiece(json.data(), json.size()), &message, options)
      .ok();
}

template <typename M>
std::string to_json(const M& message) {
  std::string json;
  // Fails only for Any and other types that our schema does not have.
  (void)google::protobuf::util::MessageToJsonString(message, &json);
  return json;
}

// The section is as it would be with nothing in it: most are, and text takes long to make and read.
template <typename M>
bool is_standard(const M& section) {
  static const std::string standard = [] {
    M empty;
    fill_in_defaults(empty, Origins{});
    return empty.SerializeAsString();
  }();
  return section.SerializeAsString() == standard;
}

}  // namespace

const std::vector<AnnotationEntry>& annotation_vocabulary() {
  static const std::vector<AnnotationEntry> vocabulary = [] {
    std::vector<AnnotationEntry> all;
    collect(*PodSettings::descriptor(), "", true, all);
    collect(*Config::descriptor(), "", false, all);
    return all;
  }();
  return vocabulary;
}

Problems check_annotation_names(const Annotations& annotations,
                                std::span<const std::string> agents) {
  Problems problems;
  for (auto it = annotations.lower_bound(annotation_prefix);
       it != annotations.end() && it->first.starts_with(annotation_prefix); ++it) {
    const std::string_view name = std::string_view(it->first).substr(annotation_prefix.size());
    std::optional<Complaint> complaint = check_name(name, agents);
    if (!complaint) continue;
    if (problems.size() >= config_problems_max) break;
    problems.push_back({"annotation " + path_segment(it->first), 0, 0, "",
                        std::move(complaint->message), std::move(complaint->mend)});
  }
  return problems;
}

std::vector<Override> annotation_overrides(const Annotations& annotations, std::string_view agent) {
  return overrides_of(annotations, agent, false);
}

Problems check_annotation_values(const Annotations& annotations, std::string_view agent,
                                 Config& config) {
  Problems problems;
  Origins origins;
  Reporter reporter(problems, origins);
  config.Clear();
  for (const Override& from : annotation_overrides(annotations, agent)) {
    apply_override(from, config, reporter, origins);
  }
  fill_in_defaults(config, origins);
  reporter.finish();
  return problems;
}

PodSettingsResult pod_settings(const Annotations& annotations, std::string_view agent) {
  PodSettingsResult result;
  Origins origins;
  Reporter reporter(result.problems, origins);
  for (const Override& from : overrides_of(annotations, agent, true)) {
    apply_override(from, result.settings, reporter, origins);
  }
  fill_in_defaults(result.settings, origins);
  check_pod_settings(result.settings, origins, reporter);
  reporter.finish();
  // The key of such a field says nothing that its annotation does not.
  for (Problem& problem : result.problems) problem.path.clear();
  return result;
}

std::vector<InjectedPort> app_ports_of(const PodSettings& settings) {
  std::vector<InjectedPort> ports;
  for (const std::string& text : settings.app_ports()) {
    if (std::optional<InjectedPort> port = parse_app_port(text)) {
      ports.push_back(*std::move(port));
    }
  }
  return ports;
}

std::vector<Override> pod_overrides(const Injected& injected, const InjectedAgent& agent) {
  const std::string origin(injected_annotation);
  std::vector<Override> overrides;
  const auto section = [&]<typename M>(const char* key, const M& message) {
    overrides.push_back({.key = key,
                         .values = {is_standard(message) ? "{}" : to_json(message)},
                         .origin = origin,
                         .structured = true});
  };
  section("interception", injected.interception());
  section("outbound", injected.outbound());
  section("pod", injected.pod());
  const bool has_own = agent.ports_size() > 0 && agent.ports(0).inbound_port() != 0;
  overrides.push_back(
      {.key = "inbound.listen",
       .values = {":" + std::to_string(has_own ? agent.ports(0).inbound_port()
                                               : injected.interception().inbound_port())},
       .origin = origin});
  const auto set_default = [&](std::string key, std::string value) {
    overrides.push_back({.key = std::move(key),
                         .values = {std::move(value)},
                         .origin = origin,
                         .is_default = true});
  };
  // Each agent has its own store.
  set_default("snapshots.store", injected.agents_size() > 1
                                     ? std::string(pod_store_dir) + "/" + agent.name()
                                     : std::string(pod_store_dir));
  set_default("admin.socket", std::string(pod_admin_socket));
  // By then no endpoint of a Service names the pod any more, almost always.
  set_default("inbound.timeouts.drainDelay", "5s");
  // The runtime has its own, which comes on top.
  set_default("healing.backoff.step", "1ms");
  if (agent.ports_size() == 0) return overrides;
  set_default("agent.appPort", std::to_string(agent.ports(0).port()));
  if (!agent.ports(0).protocol().empty()) {
    set_default("agent.appProtocol", agent.ports(0).protocol());
  }
  return overrides;
}

Result<Injected> parse_injected(std::string_view json) {
  Injected injected;
  if (from_json(json, injected)) return injected;
  return make_error(ErrorCode::kCorrupt, ErrorSource::kConfig,
                    "annotation " + std::string(injected_annotation) +
                        ": is not what the injection wrote; remove it and inject again");
}

std::string render_injected(const Injected& injected) { return to_json(injected); }

AppliedPolicy applied_policy(const Annotations& annotations) {
  AppliedPolicy policy;
  const auto it = annotations.find(policy_annotation);
  if (it == annotations.end() || !from_json(it->second, policy)) return {};
  return policy;
}

std::string render_applied_policy(const AppliedPolicy& policy) { return to_json(policy); }

Annotations with_policy(Annotations pod, const PolicyValues& values) {
  const AppliedPolicy before = applied_policy(pod);
  for (const std::string& name : before.settings())
    pod.erase(std::string(annotation_prefix) + name);
  pod.erase(std::string(policy_annotation));
  AppliedPolicy applied;
  applied.set_name(values.policy);
  applied.set_generation(static_cast<int32_t>(
      std::clamp<int64_t>(values.generation, 0, std::numeric_limits<int32_t>::max())));
  for (const auto& [key, value] : values.annotations) {
    if (!key.starts_with(annotation_prefix) || !pod.emplace(key, value).second) continue;
    applied.add_settings(key.substr(annotation_prefix.size()));
  }
  if (applied.settings_size() == 0) return pod;
  pod.insert_or_assign(std::string(policy_annotation), render_applied_policy(applied));
  return pod;
}

}  // namespace remora::config
