#include "k8s/inject/inject.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "config/gateway.h"
#include "config/scalar.h"
#include "k8s/inject/agent_probes.h"
#include "k8s/inject/avoid_nodes.h"
#include "k8s/inject/gate.h"
#include "k8s/inject/identity.h"
#include "k8s/inject/patch_builder.h"
#include "k8s/inject/plan.h"
#include "k8s/inject/pod_shape.h"
#include "k8s/inject/pod_volumes.h"
#include "k8s/inject/sidecar_container.h"

namespace remora::k8s {
namespace {

constexpr int64_t grace_s_default = 30;  // of core/v1 PodSpec
// ContainerRestartRules (KEP-5307) are on by default from here on.
constexpr int rules_minor_min = 35;

Json to_array(const std::vector<Json>& items) {
  Json array = Json::array();
  for (const Json& item : items) array.push_back(item);
  return array;
}

// Carries a plan out. Each step says what it sets and why.
class Injection {
 public:
  explicit Injection(Plan& plan) : plan_(plan), patch_(plan.pod) {}

  InjectResult run() {
    Volumes volumes = plan_volumes(plan_);
    if (!plan_.problems.empty()) return std::move(plan_.problems);
    rewrite_probes(plan_, patch_);
    for (size_t i = 0; i < plan_.agents.size(); ++i) {
      inject_agent(plan_.agents[i], volumes.agents[i]);
    }
    patch_.ensure_items("/spec/volumes", to_array(volumes.pod), "name");
    share_process_namespace();
    insert_containers(volumes.sidecar);
    avoid_nodes(plan_, patch_);
    name_eviction_responder();
    warn_of_losses();
    if (!record()) {
      return Skip{
          "Remora is not added to this pod: with its record the annotations would be "
          "larger than the " +
              std::to_string(config::annotations_bytes_max) +
              " bytes that Kubernetes allows; shorten them",
          true};
    }
    return Patch{.json = patch_.dump(),
                 .operations = patch_.size(),
                 .notes = std::move(plan_.notes),
                 .warnings = std::move(plan_.warnings)};
  }

 private:
  void inject_agent(const AgentPlan& agent, const std::vector<Json>& mounts) {
    const std::string pointer = plan_.container_pointer(agent);
    const std::string& name = agent.record.name();
    Json env = Json::array();
    env.push_back({{"name", config::agent_env}, {"value", name}});
    if (const std::string& state = agent.config.agent().state_dir(); !state.empty()) {
      env.push_back({{"name", config::state_dir_env}, {"value", state}});
    }
    if (plan_.injected.interception().mode() == "explicit" && plan_.settings.proxy_env()) {
      add_proxy_env(env);
    }
    if (plan_.proxied()) add_gateways(pointer, name, env);
    patch_.ensure_items(pointer + "/env", env, "name");
    patch_.ensure_items(pointer + "/volumeMounts", to_array(mounts), "mountPath");
    if (plan_.settings.drain_hook()) add_drain_hook(pointer, name);
    if (text_of(plan_.spec(), "restartPolicy") == "Never") add_restart_rule(pointer, name);
    note_ports(agent);
  }

  // Kubernetes wants both members. What ends by itself stays ended, as the pod says.
  void add_restart_rule(const std::string& container, const std::string& name) {
    const Json rule = {
        {"action", "Restart"},
        {"exitCodes", {{"operator", "In"}, {"values", {config::restart_exit_code}}}}};
    const Json members = {{"restartPolicy", "Never"}, {"restartPolicyRules", Json::array({rule})}};
    const Json* policy = patch_.at(container + "/restartPolicy");
    const Json* rules = patch_.at(container + "/restartPolicyRules");
    const bool is_ours = rules != nullptr && *rules == members["restartPolicyRules"];
    if ((policy != nullptr || rules != nullptr) && !is_ours) {
      return plan_.note("container " + name + ": its own restart policy is kept");
    }
    const std::string& wanted = plan_.settings.restart_rules();
    const bool is_known = has_kubernetes_minor(plan_.options.kubernetes_version, rules_minor_min);
    if (wanted == "off" || (wanted != "on" && !is_known && !is_ours)) {
      return plan_.warn("container " + name +
                        ": restartPolicy is Never, and the kubelet starts it no more: Remora "
                        "watches and takes snapshots, but its healing ends the pod; OnFailure, or "
                        "on Kubernetes 1.35 remora.dev/restart-rules, would let it restart it");
    }
    for (const auto& [key, value] : members.items()) patch_.ensure(container + "/" + key, value);
    plan_.note("container " + name +
               ": ended by Remora to heal it, it is started again in its pod (a container restart "
               "rule for exit code 144); all other ends are final");
  }

  void add_proxy_env(Json& env) const {
    const std::string proxy =
        "http://127.0.0.1:" + std::to_string(plan_.injected.outbound().proxy_port());
    const std::string direct = "localhost,127.0.0.1,::1";
    for (const char* name : {"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"}) {
      env.push_back({{"name", name}, {"value", proxy}});
    }
    for (const char* name : {"NO_PROXY", "no_proxy"}) {
      env.push_back({{"name", name}, {"value", direct}});
    }
  }

  void add_gateways(const std::string& container, const std::string& name, Json& env) {
    const Json* there = patch_.at(container + "/env");
    for (const auto& [variable, value] : config::gateway_environment(plan_.injected.outbound())) {
      env.push_back({{"name", variable}, {"value", value}});
      const Json* own = there == nullptr ? nullptr : find_named(there, "name", variable);
      if (own != nullptr && text_of(*own, "value") != value) {
        plan_.warn("container " + name + " sets " + variable +
                   " itself, so its calls there don't go through Remora; remove it");
      }
    }
  }

  void add_drain_hook(const std::string& container, const std::string& name) {
    if (patch_.at(container + "/lifecycle/preStop") != nullptr) {
      return plan_.note("container " + name + ": its own preStop hook is kept");
    }
    patch_.ensure(container + "/lifecycle", Json::object());
    patch_.add(container + "/lifecycle/preStop",
               {{"httpGet", {{"path", "/drained"}, {"port", plan_.injected.pod().health_port()}}}});
    plan_.note("container " + name +
               ": before it is stopped, Remora lets requests in flight finish (preStop hook)");
  }

  void note_ports(const AgentPlan& agent) {
    const std::string& name = agent.record.name();
    if (agent.record.ports_size() == 0) {
      return plan_.warn("container " + name +
                        " declares no TCP port: callers reach it without Remora's help "
                        "(remora.dev/app-port." +
                        name + ")");
    }
    std::string ports;
    for (const config::InjectedPort& port : agent.record.ports()) {
      ports.append(ports.empty() ? "" : ", ").append(std::to_string(port.port()));
    }
    plan_.note("container " + name + " is an agent that listens on " + ports);
  }

  void share_process_namespace() {
    const Json* there = find(plan_.spec(), "shareProcessNamespace");
    const bool refused = there != nullptr && *there == false;
    if (!plan_.settings.share_process_namespace() || refused) {
      plan_.injected.set_process_namespace_shared(there != nullptr && *there == true);
      if (plan_.injected.process_namespace_shared()) return;
      return plan_.warn(
          "the process namespace is not shared, so Remora sees no process of the agents. Lost: "
          "hangs and deadlocks found in them, evidence, restart by signal, and snapshots for which "
          "the agent is stopped; probes, traffic and requests in flight are looked after");
    }
    patch_.ensure("/spec/shareProcessNamespace", true);
    plan_.injected.set_process_namespace_shared(true);
    plan_.note(
        "the containers share a process namespace, so that Remora sees, signals and takes evidence "
        "of the agents' processes; a program that insists on being process 1 won't start");
  }

  void insert_containers(const std::vector<Json>& mounts) {
    const Json context = sidecar_security_context(plan_);
    if (const std::optional<int64_t> own = own_user(plan_); own && plan_.transparent()) {
      plan_.injected.set_sidecar_uid(*own);
      plan_.note("the sidecar's connections are told by its user " + std::to_string(*own) +
                 ", which no other container has: the agents can't get around the redirect rules");
    }
    insert(with_account_token(make_sidecar(plan_, mounts, context)), true);
    if (plan_.transparent()) insert(with_account_token(make_intercept(plan_)), false);
    check_order();
    plan_.note("container " + std::string(sidecar_container) + " (" +
               text_of(*find_named(patch_.at("/spec/initContainers"), "name", sidecar_container),
                       "image") +
               ") starts before all others and is stopped after the agents");
    if (plan_.transparent()) {
      plan_.note("container " + std::string(intercept_container) +
                 " writes the redirect rules before anything else runs, as root with NET_ADMIN, "
                 "and ends; init containers after it already go through Remora");
    }
  }

  Json with_account_token(Json container) const {
    if (const Json* mount = account_token_mount(plan_)) container["volumeMounts"].push_back(*mount);
    return container;
  }

  // In front of all others; merged into one of the same name, whose members win.
  void insert(const Json& container, bool is_sidecar) {
    const std::string list = "/spec/initContainers";
    if (patch_.at(list) == nullptr) return patch_.add(list, Json::array({container}));
    const std::string name = text_of(container, "name");
    const Json& there = *patch_.at(list);
    for (size_t i = 0; i < there.size(); ++i) {
      if (text_of(there[i], "name") == name) {
        return merge(list + "/" + std::to_string(i), container, is_sidecar);
      }
    }
    patch_.add(list + "/0", container);
  }

  void merge(const std::string& pointer, const Json& container, bool is_sidecar) {
    for (const auto& [key, value] : container.items()) {
      const std::string member = pointer + "/" + key;
      if (key == "env" || key == "ports") {
        patch_.ensure_items(member, value, "name");
      } else if (key == "volumeMounts") {
        patch_.ensure_items(member, value, "mountPath");
      } else if (key == "securityContext") {
        merge_security_context(member, value);
      } else {
        patch_.ensure(member, value);
      }
    }
    if (!is_sidecar) update_arguments(pointer + "/args");
    if (is_sidecar && !plan_.before) {
      plan_.note("container " + std::string(sidecar_container) +
                 " is there already: what it sets is kept, the rest is added");
    }
  }

  // Containers that others added since may have ports to leave alone. Arguments that somebody else
  // has changed stay.
  void update_arguments(const std::string& pointer) {
    if (!plan_.before) return;
    const Json wanted = intercept_arguments(plan_.injected);
    const Json& there = *patch_.at(pointer);
    if (there != wanted && there == intercept_arguments(*plan_.before)) {
      patch_.replace(pointer, wanted);
    }
  }

  // A user who is root can't also be asked not to be.
  void merge_security_context(const std::string& pointer, Json value) {
    const Json* there = patch_.at(pointer);
    if (there != nullptr && integer_of(*there, "runAsUser") == 0) value.erase("runAsNonRoot");
    patch_.ensure_members(pointer, value);
  }

  // Others may have put theirs in front since; taking turns about it would never end.
  void check_order() {
    for (const Json& container : *patch_.at("/spec/initContainers")) {
      const std::string name = text_of(container, "name");
      if (name == sidecar_container) return;
      if (name == intercept_container) continue;
      plan_.warn(
          "init container " + name + " runs before Remora" +
          (plan_.transparent() ? ": if the rules are written before it, it has no network" : ""));
    }
  }

  void warn_of_losses() {
    const Json& spec = plan_.spec();
    const int64_t grace_s =
        integer_of(spec, "terminationGracePeriodSeconds").value_or(grace_s_default);
    for (const AgentPlan& agent : plan_.agents) {
      const int64_t drain_s = agent.config.inbound().timeouts().drain().seconds();
      if (drain_s <= grace_s) continue;
      plan_.warn("container " + agent.record.name() + ": remora.dev/drain-timeout is " +
                 std::to_string(drain_s) + "s, but the pod is killed after " +
                 std::to_string(grace_s) + "s; raise terminationGracePeriodSeconds");
    }
    if (plan_.injected.interception().mode() == "explicit") {
      plan_.warn("interception is explicit: callers pass Remora only by the Service's targetPort " +
                 entrances() + "; and calls only where HTTP_PROXY is honoured");
    }
    warn_of_quality_of_service();
  }

  // It can be set at creation only. Pods of a group can't have one.
  void name_eviction_responder() {
    const ResponderName& responder = plan_.options.eviction_responder;
    if (responder.name.empty() || !plan_.injected.has_link()) return;
    if (find(plan_.spec(), "schedulingGroup") != nullptr) return;
    patch_.ensure_items("/spec/evictionResponders",
                        Json::array({{{"name", responder.name}, {"priority", responder.priority}}}),
                        "name");
    plan_.note(
        "before the pod is evicted by the Eviction API, the operator has a last snapshot taken");
  }

  // "remora-inbound (15006) for port 8000 of planner, remora-9000 (15007) for …".
  std::string entrances() const {
    std::string text;
    const int first = plan_.injected.interception().inbound_port();
    for (const AgentPlan& agent : plan_.agents) {
      for (const config::InjectedPort& port : agent.record.ports()) {
        text.append(text.empty() ? "" : ", ");
        text.append(entrance_name(port.inbound_port() == first, port.port()));
        text.append(" (" + std::to_string(port.inbound_port()) + ") for port ");
        text.append(std::to_string(port.port()) + " of " + agent.record.name());
      }
    }
    return text.empty() ? entrance_name(true, 0) + " (" + std::to_string(first) + ")" : text;
  }

  // Kubernetes' class Guaranteed needs equal requests and limits of every container.
  void warn_of_quality_of_service() {
    if (plan_.before) return;
    for (const Json& container : plan_.containers()) {
      const Json* resources = find_object(container, "resources");
      const Json* limits = resources == nullptr ? nullptr : find_object(*resources, "limits");
      if (limits == nullptr || find(*limits, "cpu") == nullptr ||
          find(*limits, "memory") == nullptr) {
        return;
      }
      const Json* requests = find_object(*resources, "requests");
      for (const std::string_view what : {"cpu", "memory"}) {
        const Json* request = requests == nullptr ? nullptr : find(*requests, what);
        if (request != nullptr && *request != *find(*limits, what)) return;
      }
    }
    const config::PodSettings& settings = plan_.settings;
    if (settings.cpu_limit() == settings.cpu_request() &&
        settings.memory_limit() == settings.memory_request()) {
      return;
    }
    plan_.warn(
        "the pod's quality of service is no longer Guaranteed; set remora.dev/cpu-limit and "
        "cpu-request alike, and memory-limit and memory-request");
  }

  // Writes the record; false when it would not fit.
  bool record() {
    for (const AgentPlan& agent : plan_.agents) *plan_.injected.add_agents() = agent.record;
    const std::string text = config::render_injected(plan_.injected);
    const auto before = plan_.annotations.find(config::injected_annotation);
    size_t bytes = config::injected_annotation.size() + text.size();
    for (const auto& [key, value] : plan_.annotations) {
      if (key != config::injected_annotation) bytes += key.size() + value.size();
    }
    if (bytes > config::annotations_bytes_max) return false;
    for (const auto& [key, value] : plan_.from_policy) annotate(key, value);
    if (before != plan_.annotations.end() && before->second == text) return true;
    annotate(config::injected_annotation, text);
    return true;
  }

  void annotate(std::string_view key, const std::string& value) {
    patch_.ensure("/metadata", Json::object());
    patch_.ensure("/metadata/annotations", Json::object());
    patch_.add("/metadata/annotations/" + pointer_step(key), value);
  }

  Plan& plan_;
  PatchBuilder patch_;
};

void check_label(Plan& plan) {
  const config::Annotations labels = metadata_map(plan.pod, "labels");
  const auto label = labels.find(config::inject_label);
  if (label == labels.end() || config::parse_bool(label->second)) return;
  plan.complain("label " + label->first,
                config::quote(label->second) + " is neither true nor false", "write true or false");
}

// A pod that a policy has set up before keeps what it got.
void take_policy(Plan& plan) {
  const PolicyDefaults* policy = plan.options.policy.get();
  if (policy == nullptr || plan.annotations.contains(config::policy_annotation)) return;
  if (!policy->trouble.empty()) {
    return plan.warn("the settings of HealingPolicy " + policy->name +
                     " are not used: " + policy->trouble);
  }
  config::AppliedPolicy applied;
  applied.set_name(policy->name);
  applied.set_generation(static_cast<int32_t>(
      std::min<int64_t>(policy->generation, std::numeric_limits<int32_t>::max())));
  std::string names;
  for (const auto& [key, value] : policy->settings) {
    if (!plan.annotations.emplace(key, value).second) continue;
    plan.from_policy.emplace(key, value);
    applied.add_settings(key.substr(config::annotation_prefix.size()));
    names.append(names.empty() ? "" : ", ").append(*applied.settings().rbegin());
  }
  if (plan.from_policy.empty()) return;
  const std::string record = config::render_applied_policy(applied);
  plan.annotations.emplace(config::policy_annotation, record);
  plan.from_policy.emplace(config::policy_annotation, record);
  plan.note("HealingPolicy " + policy->name + " sets " + names +
            "; an annotation of the pod's own would win over each");
}

InjectResult inject_with_policy(const Json& pod, const InjectOptions& options) {
  Plan plan{.pod = pod,
            .options = options,
            .annotations = metadata_map(pod, "annotations"),
            .from_policy = {},
            .settings = {},
            .before = std::nullopt,
            .injected = {},
            .agents = {},
            .notes = {},
            .warnings = {},
            .problems = {}};
  if (std::optional<Skip> skip = reason_to_skip(pod, plan.annotations, options)) {
    return *std::move(skip);
  }
  plan.problems = check_kubernetes_version(options.kubernetes_version);
  check_label(plan);
  take_policy(plan);
  make_plan(plan);
  if (!plan.problems.empty()) return std::move(plan.problems);
  return Injection(plan).run();
}

}  // namespace

// A policy that does not suit a pod must not keep it from starting.
InjectResult inject_pod(const nlohmann::ordered_json& pod, const InjectOptions& options) {
  if (config::Problems problems = check_pod_shape(pod); !problems.empty()) return problems;
  InjectResult result = inject_with_policy(pod, options);
  const auto* problems = std::get_if<config::Problems>(&result);
  if (problems == nullptr || options.policy == nullptr || !options.policy->trouble.empty()) {
    return result;
  }
  PolicyDefaults unused = *options.policy;
  unused.trouble = config::format_problem(problems->front());
  InjectOptions without = options;
  without.policy = std::make_shared<const PolicyDefaults>(std::move(unused));
  return inject_with_policy(pod, without);
}

nlohmann::ordered_json apply_patch(const nlohmann::ordered_json& pod, const Patch& patch) {
  return pod.patch(Json::parse(patch.json));
}

}  // namespace remora::k8s
