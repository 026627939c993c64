#include "sidecar/app/run.h"

#include <CLI/CLI.hpp>

#include "sidecar/app/app.h"
#include "sidecar/app/command.h"
#include "sidecar/base/exit_codes.h"

namespace remora {
namespace {

struct RunArguments {
  std::string config_file;
  std::string listen;
  std::string app_port;
  std::string state_dir;
  std::string store;
  std::string admin;
  std::vector<std::string> command;
};

std::vector<config::Override> overrides_of(const RunArguments& arguments) {
  std::vector<config::Override> overrides;
  const auto add = [&](const char* key, const std::string& value, const char* option) {
    if (!value.empty()) overrides.push_back({key, {value}, option});
  };
  add("inbound.listen", arguments.listen, "--listen");
  add("agent.appPort", arguments.app_port, "--app-port");
  add("agent.stateDir", arguments.state_dir, "--state");
  add("snapshots.store", arguments.store, "--store");
  add("admin.socket", arguments.admin, "--admin");
  if (!arguments.command.empty()) {
    overrides.push_back({"agent.command", arguments.command, "COMMAND"});
  }
  return overrides;
}

// The configuration as it is now, from file and command line; also used for every reload.
Result<AppConfig> load(const RunArguments& arguments) {
  Result<config::IsolatedLoad> loaded =
      load_checked(arguments.config_file, overrides_of(arguments));
  if (!loaded) return std::unexpected(std::move(loaded.error()));
  if (loaded->config.agent().command().empty()) {
    return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig,
                      "no command to run; write it after --, as in: remora run --app-port 8000 -- "
                      "python3 agent.py");
  }
  return app_config("agent", std::move(*loaded));
}

AgentWorld make_child(Loop& loop, const AppAgent& agent) {
  auto child = std::make_unique<ChildAgent>(loop, child_options(agent.config));
  ChildAgent* const runs = child.get();
  return {.orchestrator = std::move(child), .reload = [runs](const config::Config& config) {
            runs->set_options(child_options(config));
          }};
}

int run(const RunArguments& arguments) {
  Result<AppConfig> config = load(arguments);
  if (!config) return report_failure(config.error(), exit_usage);
  AppRole role;
  role.make_world = make_child;
  role.leave_delay = config::to_duration(config->shared.inbound().timeouts().drain_delay());
  role.reload = [arguments] { return load(arguments); };
  Result<std::unique_ptr<App>> app = App::create(std::move(*config), std::move(role));
  if (!app) return report_failure(app.error(), exit_code_of(app.error()));
  const int exit_code = (*app)->run();
  app->reset();
  flush_log();
  return exit_code;
}

}  // namespace

void add_run_command(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("run", "Run an agent, carry its traffic and heal it");
  auto arguments = std::make_shared<RunArguments>();
  command->add_option("-c,--config", arguments->config_file, "Configuration file (YAML)");
  command->add_option("--listen", arguments->listen, "ADDRESS:PORT for callers");
  command->add_option("--app-port", arguments->app_port, "Port on which the agent listens");
  command->add_option("--state", arguments->state_dir, "The agent's state directory");
  command->add_option("--store", arguments->store, "Directory for snapshots and incidents");
  command->add_option("--admin", arguments->admin, "Path of the admin socket");
  command->add_option("COMMAND", arguments->command, "The agent: program and arguments, after --");
  command->positionals_at_end();
  command->footer("Example: remora run --app-port 8000 -- python3 agent.py");
  command->callback([arguments, &exit_code] { exit_code = run(*arguments); });
}

}  // namespace remora
