#include "sidecar/app/sidecar.h"

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>

#include "config/isolated_load.h"
#include "config/pod.h"
#include "sidecar/app/app.h"
#include "sidecar/app/command.h"
#include "sidecar/app/operator_link.h"
#include "sidecar/app/pod_config.h"
#include "sidecar/app/pod_endpoints.h"
#include "sidecar/app/pod_events.h"
#include "sidecar/base/exit_codes.h"
#include "sidecar/net/tcp.h"
#include "sidecar/pod/pod_agent.h"

namespace remora {
namespace {

struct SidecarArguments {
  std::string config_file;
  std::string pod_info;
  std::string agent = "agent";
  std::string listen;
  std::string app_port;
  std::string state_dir;
  std::string store;
  std::string admin;
  std::string proxy_port;
  std::string health_listen;
  std::string operator_token;
  std::string operator_ca;
};

std::vector<config::Override> overrides_of(const SidecarArguments& arguments) {
  std::vector<config::Override> overrides;
  const auto add = [&](const char* key, const std::string& value, const char* option) {
    if (!value.empty()) {
      config::Override one;
      one.key = key;
      one.values = {value};
      one.origin = option;
      overrides.push_back(std::move(one));
    }
  };
  add("inbound.listen", arguments.listen, "--listen");
  add("agent.appPort", arguments.app_port, "--app-port");
  add("agent.stateDir", arguments.state_dir, "--state");
  add("snapshots.store", arguments.store, "--store");
  add("outbound.proxyPort", arguments.proxy_port, "--outbound-proxy-port");
  add("admin.socket", arguments.admin, "--admin");
  return overrides;
}

// One agent, set by file and flags.
Result<AppConfig> load_plain(const SidecarArguments& arguments) {
  Result<config::IsolatedLoad> loaded =
      load_checked(arguments.config_file, overrides_of(arguments));
  if (!loaded) return std::unexpected(std::move(loaded.error()));
  AppConfig config = app_config(arguments.agent, std::move(*loaded));
  config.agents.front().clean_end_is_final = false;
  config.agents.front().ends_when_giving_up = false;
  return config;
}

// What the operator has told of the pod's policy; read at each reload.
using ToldPolicy = std::shared_ptr<std::optional<config::PolicyValues>>;

PodSources pod_sources(const SidecarArguments& arguments, const ToldPolicy& told) {
  return {.info_dir = arguments.pod_info,
          .config_file = arguments.config_file,
          .overrides = overrides_of(arguments),
          .policy = *told};
}

Result<AppConfig> load(const SidecarArguments& arguments, const ToldPolicy& told) {
  return arguments.pod_info.empty() ? load_plain(arguments)
                                    : load_pod(pod_sources(arguments, told));
}

Result<AppConfig> load_first(const SidecarArguments& arguments, const ToldPolicy& told) {
  return arguments.pod_info.empty() ? load_plain(arguments)
                                    : load_pod_or_last_good(pod_sources(arguments, told));
}

// Puts them in force; why not, or not all of them. Those that are refused leave the ones before.
std::string take_policy(App& app, const ToldPolicy& told, config::PolicyValues fresh) {
  std::optional<config::PolicyValues> before = *told;
  *told = std::move(fresh);
  app.reload_if_changed();
  const AdminConfig& reloads = app.reloads();
  if (!reloads.refused.empty()) {
    *told = std::move(before);
    return reloads.refused;
  }
  if (*told != before) keep_policy_values(**told);
  return reloads.for_next_start.empty() ? std::string()
                                        : "from the next start on: " + reloads.for_next_start;
}

// A healed agent must be started again, so its end must be one after which the kubelet does so.
PodAgentOptions pod_agent_options(const AppAgent& agent) {
  PodAgentOptions options{.container = agent.name};
  if (agent.restart_policy == "OnFailure") {
    // Many an agent ends with 0 at a SIGTERM.
    options.stop_grace = Duration{0};
  } else if (agent.restart_policy == "Never") {
    options.stop_signal = config::restart_signal;
    options.stop_grace = std::chrono::milliseconds(config::restart_signal_wait_ms);
  }
  return options;
}

AgentWorld make_pod_agent(Loop& loop, const AppAgent& agent) {
  auto pod_agent = std::make_unique<PodAgent>(loop, pod_agent_options(agent));
  PodAgent* const runs = pod_agent.get();
  AgentWorld world;
  world.orchestrator = std::move(pod_agent);
  world.leave_stopping_to_others = [runs] { runs->leave_stopping_to_others(); };
  return world;
}

int run(const SidecarArguments& arguments) {
  const auto told = std::make_shared<std::optional<config::PolicyValues>>(kept_policy_values());
  Result<AppConfig> config = load_first(arguments, told);
  if (!config) return report_failure(config.error(), exit_usage);
  Result<SocketAddress> health = parse_socket_address(arguments.health_listen);
  if (!health) {
    return report_failure(std::move(health.error()).with_context("--health-listen"), exit_usage);
  }
  AppRole role;
  role.make_world = make_pod_agent;
  role.reload = [arguments, told] { return load(arguments, told); };
  // Nobody sends signals into a pod. `remora run` leaves it to SIGHUP: there somebody edits.
  if (!arguments.pod_info.empty()) {
    role.watched_files.push_back(arguments.pod_info + "/annotations");
  }
  if (!arguments.config_file.empty()) role.watched_files.push_back(arguments.config_file);
  role.stays = true;
  std::optional<AppLink> link = config->link;
  if (link && !arguments.operator_token.empty()) link->token_file = arguments.operator_token;
  if (link && !arguments.operator_ca.empty()) link->trusted_file = arguments.operator_ca;
  const bool tells_events = !arguments.pod_info.empty() && config->shared.pod().events();
  role.leave_delay = config::to_duration(config->shared.inbound().timeouts().drain_delay());
  Result<std::unique_ptr<App>> app = App::create(std::move(*config), std::move(role));
  if (!app) return report_failure(app.error(), exit_code_of(app.error()));
  Result<std::unique_ptr<PodEndpoints>> endpoints = PodEndpoints::open(**app, *health);
  if (!endpoints) {
    return report_failure(std::move(endpoints.error()).with_context("--health-listen"),
                          exit_failed);
  }
  // The operator tells the pod's Events, too.
  std::unique_ptr<PodEvents> events =
      tells_events && !link ? open_pod_events((*app)->loop()) : nullptr;
  const auto take = [&app, told](config::PolicyValues fresh) {
    return take_policy(**app, told, std::move(fresh));
  };
  auto operator_link = link ? std::make_unique<OperatorLink>(**app, *link, take) : nullptr;
  (*app)->tell_incidents([&](std::string_view agent, const Incident& incident) {
    if (events) events->tell(agent, incident);
    if (operator_link) operator_link->tell(agent, incident);
  });
  if (operator_link) operator_link->start();
  log_info("listening", {{"listener", "health"}, {"address", (*endpoints)->address().to_string()}});
  static_cast<void>((*app)->run());
  (*app)->tell_incidents({});
  events.reset();
  operator_link.reset();
  endpoints->reset();
  app->reset();
  flush_log();
  return 0;
}

}  // namespace

void add_sidecar_command(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "sidecar", "Ride beside agents in other containers of the pod or Compose service");
  auto arguments = std::make_shared<SidecarArguments>();
  command->add_option("-c,--config", arguments->config_file, "Configuration file (YAML)");
  command->add_option("--pod-info", arguments->pod_info,
                      "Directory of the pod's downward API volume, with the file annotations");
  command->add_option("--agent", arguments->agent,
                      "Without --pod-info: the agent has REMORA_AGENT=<this> in its environment");
  command->add_option("--listen", arguments->listen, "ADDRESS:PORT for callers");
  command->add_option("--app-port", arguments->app_port, "Port on which the agent listens");
  command->add_option("--state", arguments->state_dir, "The agent's state directory");
  command->add_option("--store", arguments->store, "Directory for snapshots and incidents");
  command->add_option("--admin", arguments->admin, "Path of the admin socket");
  command->add_option("--outbound-proxy-port", arguments->proxy_port,
                      "Loopback port of an HTTP proxy for the agent (HTTP_PROXY)");
  command->add_option("--operator-token", arguments->operator_token,
                      "File with the token for the operator; default: the one that the injection "
                      "has mounted");
  command->add_option("--operator-ca", arguments->operator_ca,
                      "File with the authorities that the operator's certificate is checked "
                      "against; default: the one that the injection has mounted");
  command
      ->add_option("--health-listen", arguments->health_listen,
                   "ADDRESS:PORT for the kubelet's probes and hooks")
      ->default_val("0.0.0.0:15020");
  command->callback([arguments, &exit_code] { exit_code = run(*arguments); });
}

}  // namespace remora
