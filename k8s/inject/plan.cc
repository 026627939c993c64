#include "k8s/inject/plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <tuple>
#include <utility>

#include "config/scalar.h"

namespace remora::k8s {
namespace {

using config::Override;
using config::Problem;

// sidecar/intercept writes one rule for each.
constexpr int excluded_ports_max = 64;
constexpr int64_t port_max = 65535;
constexpr std::string_view default_container_annotation = "kubectl.kubernetes.io/default-container";

bool is_pod_wide(const Override& from) {
  for (const std::string_view section : {"interception.", "outbound.", "pod."}) {
    if (from.key.starts_with(section)) return true;
  }
  return false;
}

// The same annotation is read once for each agent, and said once.
void add_problems(Plan& plan, config::Problems problems) {
  for (Problem& problem : problems) {
    const auto same = [&](const Problem& other) {
      return std::tie(problem.file, problem.line, problem.column, problem.path, problem.message) ==
             std::tie(other.file, other.line, other.column, other.path, other.message);
    };
    if (std::ranges::none_of(plan.problems, same)) plan.problems.push_back(std::move(problem));
  }
}

// What the annotations say about listeners and rules, or what an earlier injection settled.
void plan_interception(Plan& plan) {
  plan.injected.set_version(plan.options.product_version);
  // Absent in a pod (not in a stored one): Kubernetes' default.
  const std::string restart_policy = text_of(plan.spec(), "restartPolicy");
  plan.injected.set_restart_policy(restart_policy.empty() ? "Always" : restart_policy);
  if (plan.before) {
    *plan.injected.mutable_interception() = plan.before->interception();
    *plan.injected.mutable_outbound() = plan.before->outbound();
    *plan.injected.mutable_pod() = plan.before->pod();
    plan.injected.set_version(plan.before->version());
    return;
  }
  std::vector<Override> overrides = config::annotation_overrides(plan.annotations, {});
  std::erase_if(overrides, [](const Override& from) { return !is_pod_wide(from); });
  for (const std::string key : {"interception", "outbound", "pod"}) {
    overrides.insert(overrides.begin(),
                     {.key = key, .values = {"{}"}, .origin = "pod", .structured = true});
  }
  config::LoadResult loaded = config::load_yaml({}, "pod", overrides);
  add_problems(plan, std::move(loaded.problems));
  *plan.injected.mutable_interception() = loaded.config.interception();
  *plan.injected.mutable_outbound() = loaded.config.outbound();
  *plan.injected.mutable_pod() = loaded.config.pod();
}

// Rules need a right that namespaces at the other levels refuse.
void plan_pod_security(Plan& plan) {
  if (!plan.proxied() && plan.injected.outbound().gateways_size() > 0) {
    plan.complain(annotation_place("gateways"), "interception is none: nothing goes through Remora",
                  "write explicit, or remove the gateways");
  }
  if (!plan.transparent() || plan.before) return;
  if (plan.options.pod_security == PodSecurity::kPrivileged) return;
  const std::string level =
      plan.options.pod_security == PodSecurity::kBaseline ? "baseline" : "restricted";
  if (plan.annotations.contains("remora.dev/interception")) {
    return plan.complain(annotation_place("interception"),
                         "transparent needs an init container with NET_ADMIN, which the Pod "
                         "Security level " +
                             level + " of this namespace refuses",
                         "write explicit, or use a namespace at the level privileged");
  }
  plan.injected.mutable_interception()->set_mode("explicit");
  plan.warn("interception is explicit, because the Pod Security level " + level +
            " of this namespace refuses the init container that redirect rules need");
}

std::vector<std::string> container_names(const Plan& plan) {
  std::vector<std::string> names;
  for (const Json& container : plan.containers()) names.push_back(text_of(container, "name"));
  return names;
}

std::string nearest(const std::string& name, std::span<const std::string> known) {
  const auto distance = [&](const std::string& other) {
    return config::edit_distance(name, other);
  };
  return *std::ranges::min_element(known, {}, distance);
}

std::vector<std::string> agent_names(Plan& plan) {
  const std::vector<std::string> all = container_names(plan);
  std::vector<std::string> names;
  const auto is_there = [&](const std::string& name) {
    return std::ranges::find(all, name) != all.end();
  };
  for (const std::string& name : plan.settings.containers()) {
    if (is_there(name)) {
      names.push_back(name);
    } else {
      plan.complain(annotation_place("containers"),
                    config::quote(name) + " is no container of this pod",
                    "did you mean " + nearest(name, all) + "?");
    }
  }
  if (!names.empty() || plan.settings.containers_size() > 0) return names;
  // Containers that others have added since must not change whose agent it is.
  if (plan.before) {
    for (const config::InjectedAgent& agent : plan.before->agents()) {
      if (is_there(agent.name())) names.push_back(agent.name());
    }
    if (!names.empty()) return names;
  }
  const auto chosen = plan.annotations.find(default_container_annotation);
  if (chosen != plan.annotations.end() && is_there(chosen->second)) return {chosen->second};
  return {all.front()};
}

bool is_tcp(const Json& port) {
  const std::string protocol = text_of(port, "protocol");
  return protocol.empty() || protocol == "TCP";
}

std::optional<int64_t> container_port(const Json& port) {
  const std::optional<int64_t> number = integer_of(port, "containerPort");
  return number && *number >= 1 && *number <= 65535 && is_tcp(port) ? number : std::nullopt;
}

void add_port(config::InjectedAgent& agent, const config::InjectedPort& port) {
  for (config::InjectedPort& known : *agent.mutable_ports()) {
    if (known.port() != port.port()) continue;
    if (known.name().empty()) known.set_name(port.name());
    if (known.protocol().empty()) known.set_protocol(port.protocol());
    return;
  }
  *agent.add_ports() = port;
}

// app-port first, then app-ports, then what the container declares; what is named explicitly
// replaces what is declared.
void plan_ports(Plan& plan, AgentPlan& agent, int app_port) {
  config::PodSettingsResult own = config::pod_settings(plan.annotations, agent.record.name());
  add_problems(plan, std::move(own.problems));
  if (app_port != 0) {
    config::InjectedPort port;
    port.set_port(app_port);
    add_port(agent.record, port);
  }
  for (const config::InjectedPort& port : config::app_ports_of(own.settings)) {
    add_port(agent.record, port);
  }
  const bool explicitly = own.settings.app_ports_size() > 0;
  const Json* declared = find_array(plan.container(agent), "ports");
  if (declared == nullptr) return;
  for (const Json& item : *declared) {
    const std::optional<int64_t> number = container_port(item);
    if (!number) continue;
    const auto same = [&](const config::InjectedPort& known) { return known.port() == *number; };
    if (explicitly && std::ranges::none_of(agent.record.ports(), same)) continue;
    config::InjectedPort port;
    port.set_port(static_cast<int32_t>(*number));
    port.set_name(text_of(item, "name"));
    add_port(agent.record, port);
  }
}

// The configuration that the agent's annotations make, checked as far as it can be without the
// file of a ConfigMap.
void plan_config(Plan& plan, AgentPlan& agent) {
  const std::string& name = agent.record.name();
  std::vector<Override> overrides = config::annotation_overrides(plan.annotations, name);
  const auto app_port = std::ranges::find(overrides, "agent.appPort", &Override::key);
  int port = 0;
  if (app_port != overrides.end() && app_port->values.size() == 1) {
    // The last one wins: that of the container.
    for (const Override& from : overrides) {
      if (from.key != "agent.appPort") continue;
      const config::Parsed<int64_t> parsed = config::parse_integer(from.values[0]);
      port = parsed && *parsed >= 1 && *parsed <= 65535 ? static_cast<int>(*parsed) : 0;
    }
  }
  plan_ports(plan, agent, port);
  if (!plan.settings.config_map().empty()) {
    add_problems(plan, config::check_annotation_values(plan.annotations, name, agent.config));
    return;
  }
  for (Override& from : config::pod_overrides(plan.injected, agent.record)) {
    overrides.push_back(std::move(from));
  }
  config::LoadResult loaded = config::load_yaml({}, "pod", overrides);
  add_problems(plan, std::move(loaded.problems));
  agent.config = std::move(loaded.config);
}

void plan_agents(Plan& plan, const std::vector<std::string>& names) {
  const std::vector<std::string> all = container_names(plan);
  for (const std::string& name : names) {
    AgentPlan agent;
    agent.index = static_cast<size_t>(std::ranges::find(all, name) - all.begin());
    agent.record.set_name(name);
    const std::string restart_policy = text_of(plan.container(agent), "restartPolicy");
    if (restart_policy != plan.injected.restart_policy()) {
      agent.record.set_restart_policy(restart_policy);
    }
    plan_config(plan, agent);
    plan.agents.push_back(std::move(agent));
  }
}

// Everything that our own listeners need must be free.
void check_ports(Plan& plan) {
  const config::Interception& interception = plan.injected.interception();
  std::vector<std::tuple<int, std::string_view, std::string_view>> own = {
      {plan.injected.pod().health_port(), "health-port", "health port"},
      {plan.proxied() ? interception.inbound_port() : 0, "inbound-port", "inbound port"},
      {plan.transparent() ? interception.outbound_port() : 0, "outbound-port", "outbound port"},
      {plan.proxied() ? plan.injected.outbound().proxy_port() : 0, "outbound-proxy-port",
       "outbound proxy port"}};
  const config::Outbound& outbound = plan.injected.outbound();
  for (int i = 0; plan.proxied() && i < outbound.gateways_size(); ++i) {
    own.emplace_back(outbound.gateway_port() + i, "gateway-port", "port of a gateway");
  }
  for (const Json& container : plan.containers()) {
    const Json* ports = find_array(container, "ports");
    if (ports == nullptr) continue;
    for (const Json& item : *ports) {
      const std::optional<int64_t> number = container_port(item);
      for (const auto& [port, annotation, what] : own) {
        if (!number || *number != port) continue;
        plan.complain("container " + text_of(container, "name"),
                      "its port " + std::to_string(port) + " is also Remora's " + std::string(what),
                      "set remora.dev/" + std::string(annotation) + " to a free port");
      }
    }
  }
}

void add_probe_ports(const Json& container, std::set<int64_t>& ports) {
  const Json* declared = find_array(container, "ports");
  for (const std::string_view kind : {"startupProbe", "livenessProbe", "readinessProbe"}) {
    const Json* probe = find_object(container, kind);
    if (probe == nullptr) continue;
    for (const std::string_view action : {"httpGet", "tcpSocket", "grpc"}) {
      const Json* details = find_object(*probe, action);
      if (details == nullptr) continue;
      if (const auto number = integer_of(*details, "port")) {
        ports.insert(*number);
      } else if (const Json* named = find_named(declared, "name", text_of(*details, "port"))) {
        if (const auto resolved = container_port(*named)) ports.insert(*resolved);
      }
    }
  }
}

void add_container_ports(const Json& container, std::set<int64_t>& ports) {
  const Json* declared = find_array(container, "ports");
  if (declared == nullptr) return;
  for (const Json& item : *declared) {
    if (const auto number = container_port(item)) ports.insert(*number);
  }
}

// Containers that are no agents keep their callers to themselves: a captured port looks open to the
// kubelet although nobody may listen behind it.
void exclude_others(Plan& plan) {
  std::set<int64_t> ports;
  for (const Json& container : plan.containers()) {
    const std::string name = text_of(container, "name");
    const auto is_it = [&](const AgentPlan& agent) { return agent.record.name() == name; };
    if (std::ranges::any_of(plan.agents, is_it)) continue;
    add_container_ports(container, ports);
    add_probe_ports(container, ports);
    plan.note("container " + name +
              " is no agent: not watched, not healed, and calls to its ports don't pass Remora "
              "(remora.dev/containers would change that)");
  }
  if (!plan.transparent()) return;
  for (const AgentPlan& agent : plan.agents) {
    for (const config::InjectedPort& port : agent.record.ports()) ports.erase(port.port());
  }
  config::Interception& interception = *plan.injected.mutable_interception();
  for (const int64_t port : ports) {
    const std::string text = std::to_string(port);
    const auto& known = interception.exclude_inbound_ports();
    if (std::ranges::find(known, text) == known.end()) {
      interception.add_exclude_inbound_ports(text);
    }
  }
  if (interception.exclude_inbound_ports_size() > excluded_ports_max) {
    plan.complain(annotation_place("exclude-inbound-ports"),
                  "with the ports of containers that are no agents there are more than " +
                      std::to_string(excluded_ports_max),
                  "write ranges, such as 8000-8080");
  }
}

// What an earlier injection gave to that port of that agent; 0: nothing.
int32_t inbound_port_before(const Plan& plan, const std::string& agent, int32_t port) {
  if (!plan.before) return 0;
  for (const config::InjectedAgent& known : plan.before->agents()) {
    if (known.name() != agent) continue;
    for (const config::InjectedPort& one : known.ports()) {
      if (one.port() == port) return one.inbound_port();
    }
  }
  return 0;
}

// Without rules nobody can say which port a caller meant: each has an entrance of its own. The
// first one is interception.inboundPort, and the next free ones follow.
void plan_entrances(Plan& plan) {
  const config::Interception& interception = plan.injected.interception();
  if (interception.mode() != "explicit") return;
  const config::Outbound& outbound = plan.injected.outbound();
  std::set<int64_t> taken{plan.injected.pod().health_port(), outbound.proxy_port()};
  for (int i = 0; i < outbound.gateways_size(); ++i) taken.insert(outbound.gateway_port() + i);
  for (const Json& container : plan.containers()) add_container_ports(container, taken);
  for (const AgentPlan& agent : plan.agents) {
    for (const config::InjectedPort& port : agent.record.ports()) taken.insert(port.port());
  }
  for (AgentPlan& agent : plan.agents) {
    for (config::InjectedPort& port : *agent.record.mutable_ports()) {
      port.set_inbound_port(inbound_port_before(plan, agent.record.name(), port.port()));
      taken.insert(port.inbound_port());
    }
  }
  int64_t next = interception.inbound_port();
  for (AgentPlan& agent : plan.agents) {
    for (config::InjectedPort& port : *agent.record.mutable_ports()) {
      if (port.inbound_port() != 0) continue;
      while (taken.contains(next)) ++next;
      if (next > port_max) {
        return plan.complain(annotation_place("inbound-port"),
                             "there are not enough ports above it for all ports of the agents",
                             "choose a lower one");
      }
      taken.insert(next);
      port.set_inbound_port(static_cast<int32_t>(next));
    }
  }
}

// The name of the PersistentVolumeClaim that a volume of the pod's is; empty: it is none.
std::string claim_of(const Plan& plan, const std::string& volume) {
  const Json* named = find_named(find_array(plan.spec(), "volumes"), "name", volume);
  const Json* claim = named == nullptr ? nullptr : find_object(*named, "persistentVolumeClaim");
  return claim == nullptr ? std::string() : text_of(*claim, "claimName");
}

void plan_link(Plan& plan) {
  if (plan.before) {
    if (plan.before->has_link()) *plan.injected.mutable_link() = plan.before->link();
    return;
  }
  const LinkTarget& target = plan.options.link;
  if (target.address.empty() || target.trusted_pem.empty()) return;
  config::Link& link = *plan.injected.mutable_link();
  link.set_address(target.address);
  link.set_trusted_pem(target.trusted_pem);
  link.set_claim(plan.settings.snapshot_volume().empty()
                     ? plan.settings.snapshot_claim()
                     : claim_of(plan, plan.settings.snapshot_volume()));
}

void plan_before(Plan& plan) {
  const auto it = plan.annotations.find(config::injected_annotation);
  if (it == plan.annotations.end()) return;
  Result<config::Injected> before = config::parse_injected(it->second);
  if (!before) {
    return plan.complain(annotation_place("injected"), "is not what the injection wrote",
                         "remove it");
  }
  plan.before = std::move(*before);
}

}  // namespace

const Json& Plan::spec() const { return pod.at("spec"); }
const Json& Plan::containers() const { return spec().at("containers"); }
const Json& Plan::container(const AgentPlan& agent) const { return containers()[agent.index]; }
std::string Plan::container_pointer(const AgentPlan& agent) const {
  return "/spec/containers/" + std::to_string(agent.index);
}

void Plan::complain(std::string place, std::string message, std::string mend) {
  add_problems(*this, {{std::move(place), 0, 0, "", std::move(message), std::move(mend)}});
}

std::string annotation_place(std::string_view name) {
  return "annotation " + std::string(config::annotation_prefix) + std::string(name);
}

void make_plan(Plan& plan) {
  config::PodSettingsResult settings = config::pod_settings(plan.annotations);
  plan.settings = std::move(settings.settings);
  add_problems(plan, std::move(settings.problems));
  plan_before(plan);
  for (const std::string_view ours : {sidecar_container, intercept_container}) {
    if (find_named(&plan.containers(), "name", ours) == nullptr) continue;
    plan.complain("container " + std::string(ours), "its name is that of a container of Remora's",
                  "rename it");
  }
  plan_interception(plan);
  plan_pod_security(plan);
  const std::vector<std::string> names = agent_names(plan);
  add_problems(plan, config::check_annotation_names(plan.annotations, names));
  plan_agents(plan, names);
  check_ports(plan);
  exclude_others(plan);
  plan_entrances(plan);
  plan_link(plan);
}

}  // namespace remora::k8s
