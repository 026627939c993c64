#include "k8s/inject/sidecar_container.h"

#include <nlohmann/json.hpp>
#include <string>

namespace remora::k8s {
namespace {

// Checking and restoring a large state takes its time.
constexpr int start_limit_s = 60;
constexpr int readiness_period_s = 2;
// Both generous: a sidecar that is short of CPU must not be killed for it.
constexpr int liveness_period_s = 10;
constexpr int liveness_failures_max = 6;
constexpr int probe_timeout_s = 5;

Json field_env(std::string_view name, std::string_view path) {
  return {{"name", name}, {"valueFrom", {{"fieldRef", {{"fieldPath", path}}}}}};
}

Json own_probe(const Plan& plan, std::string_view path, int period_s, int failures_max) {
  return {{"httpGet", {{"path", path}, {"port", plan.injected.pod().health_port()}}},
          {"periodSeconds", period_s},
          {"timeoutSeconds", probe_timeout_s},
          {"failureThreshold", failures_max}};
}

Json ports_of(const Plan& plan) {
  Json ports = Json::array();
  ports.push_back(
      {{"name", "remora-health"}, {"containerPort", plan.injected.pod().health_port()}});
  if (plan.proxied()) {
    ports.push_back({{"name", entrance_name(true, 0)},
                     {"containerPort", plan.injected.interception().inbound_port()}});
  }
  for (const AgentPlan& agent : plan.agents) {
    for (const config::InjectedPort& port : agent.record.ports()) {
      const int entrance = port.inbound_port();
      if (entrance == 0 || entrance == plan.injected.interception().inbound_port()) continue;
      ports.push_back({{"name", entrance_name(false, port.port())}, {"containerPort", entrance}});
    }
  }
  return ports;
}

Json resources_of(const config::PodSettings& settings) {
  Json resources = Json::object();
  const auto set = [&](const char* kind, const char* what, const std::string& quantity) {
    if (!quantity.empty()) resources[kind][what] = quantity;
  };
  set("requests", "cpu", settings.cpu_request());
  set("requests", "memory", settings.memory_request());
  set("limits", "cpu", settings.cpu_limit());
  set("limits", "memory", settings.memory_limit());
  return resources;
}

std::string image_of(const Plan& plan) {
  return plan.settings.image().empty() ? plan.options.image : plan.settings.image();
}

Json sidecar_arguments(const Plan& plan) {
  Json arguments = Json::array({"sidecar", "--pod-info", config::pod_info_dir});
  // On every address of the pod, whichever family the kubelet uses.
  arguments.push_back("--health-listen=:" + std::to_string(plan.injected.pod().health_port()));
  if (!plan.settings.config_map().empty()) {
    arguments.push_back("--config=" + std::string(config::pod_config_dir) + "/" +
                        std::string(config::pod_config_key));
  }
  return arguments;
}

template <typename Values>
void add_list(Json& arguments, const char* option, const Values& values) {
  std::string list;
  for (const auto& value : values) {
    if (!list.empty()) list += ',';
    if constexpr (std::is_convertible_v<decltype(value), std::string>) {
      list += value;
    } else {
      list += std::to_string(value);
    }
  }
  if (!list.empty()) arguments.push_back(std::string(option) + "=" + list);
}

}  // namespace

std::string entrance_name(bool is_first, int agent_port) {
  return is_first ? "remora-inbound" : "remora-" + std::to_string(agent_port);
}

Json make_sidecar(const Plan& plan, const std::vector<Json>& volume_mounts,
                  const Json& security_context) {
  Json sidecar = {{"name", sidecar_container}, {"image", image_of(plan)}};
  if (!plan.settings.image_pull_policy().empty()) {
    sidecar["imagePullPolicy"] = plan.settings.image_pull_policy();
  }
  sidecar["args"] = sidecar_arguments(plan);
  sidecar["restartPolicy"] = "Always";
  sidecar["env"] = Json::array({field_env("REMORA_POD_NAME", "metadata.name"),
                                field_env("REMORA_POD_NAMESPACE", "metadata.namespace"),
                                field_env("REMORA_POD_UID", "metadata.uid"),
                                field_env("REMORA_POD_IP", "status.podIP"),
                                field_env("REMORA_NODE_NAME", "spec.nodeName"),
                                {{"name", "REMORA_ADMIN"}, {"value", config::pod_admin_socket}}});
  sidecar["ports"] = ports_of(plan);
  sidecar["readinessProbe"] = own_probe(plan, "/readyz", readiness_period_s, 1);
  sidecar["livenessProbe"] = own_probe(plan, "/healthz", liveness_period_s, liveness_failures_max);
  // A native sidecar gets SIGTERM only when the agents are gone; the hook runs when the pod's end
  // begins. Through the admin socket, so that nobody outside the pod can end its service.
  // The agents begin after the other hook: with their state checked, and restored where it must be.
  // A startup probe would do the same up to a second later, for its period can't be shorter; a hook
  // that fails has the container killed and started again, as a failed probe has.
  sidecar["lifecycle"] = {
      {"postStart",
       {{"exec",
         {{"command",
           {config::binary_path, "wait-started", "--limit=" + std::to_string(start_limit_s)}}}}}},
      {"preStop", {{"exec", {{"command", {config::binary_path, "drain", "--pod-ends"}}}}}}};
  if (Json resources = resources_of(plan.settings); !resources.empty()) {
    sidecar["resources"] = std::move(resources);
  }
  sidecar["securityContext"] = security_context;
  sidecar["volumeMounts"] = volume_mounts;
  return sidecar;
}

Json intercept_arguments(const config::Injected& injected) {
  const config::Interception& interception = injected.interception();
  Json arguments = Json::array({"intercept"});
  arguments.push_back("--inbound-port=" + std::to_string(interception.inbound_port()));
  arguments.push_back("--outbound-port=" + std::to_string(interception.outbound_port()));
  arguments.push_back("--health-port=" + std::to_string(injected.pod().health_port()));
  if (injected.has_sidecar_uid()) {
    arguments.push_back("--sidecar-uid=" + std::to_string(injected.sidecar_uid()));
  }
  add_list(arguments, "--exclude-inbound-port", interception.exclude_inbound_ports());
  add_list(arguments, "--exclude-outbound-port", interception.exclude_outbound_ports());
  add_list(arguments, "--exclude-outbound-address", interception.exclude_outbound_addresses());
  add_list(arguments, "--exclude-uid", interception.exclude_uids());
  add_list(arguments, "--exclude-gid", interception.exclude_gids());
  return arguments;
}

Json make_intercept(const Plan& plan) {
  Json container = {{"name", intercept_container}, {"image", image_of(plan)}};
  if (!plan.settings.image_pull_policy().empty()) {
    container["imagePullPolicy"] = plan.settings.image_pull_policy();
  }
  container["args"] = intercept_arguments(plan.injected);
  container["resources"] = {{"requests", {{"cpu", "10m"}, {"memory", "16Mi"}}},
                            {"limits", {{"memory", "64Mi"}}}};
  container["securityContext"] = {{"runAsUser", 0},
                                  {"runAsGroup", 0},
                                  {"runAsNonRoot", false},
                                  {"allowPrivilegeEscalation", false},
                                  {"readOnlyRootFilesystem", true},
                                  {"seccompProfile", {{"type", "RuntimeDefault"}}},
                                  {"capabilities", {{"drop", {"ALL"}}, {"add", {"NET_ADMIN"}}}}};
  return container;
}

}  // namespace remora::k8s
