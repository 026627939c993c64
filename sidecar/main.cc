// One binary, one command per role. Each command lives with what it is about; this is their list.
#include <CLI/CLI.hpp>
#include <string_view>

#include "checkpoint/cli.h"
#include "config/cli.h"
#include "k8s/inject/cli.h"
#include "k8s/kubectl/cli.h"
#include "k8s/operator/cli.h"
#include "sidecar/admin/status_cli.h"
#include "sidecar/app/command.h"
#include "sidecar/app/live_snapshot.h"
#include "sidecar/app/run.h"
#include "sidecar/app/sidecar.h"
#include "sidecar/base/exit_codes.h"
#include "sidecar/heal/incident_cli.h"
#include "sidecar/intercept/cli.h"
#include "sidecar/pod/hold.h"

namespace {

// kubectl finds its plugins by the name of their program.
bool is_called(const char* program, std::string_view name) {
  const std::string_view path = program == nullptr ? "" : program;
  return path.substr(path.rfind('/') + 1) == name;
}

void add_commands(CLI::App& app, int& exit_code) {
  app.name("remora");
  app.require_subcommand(1);
  remora::add_run_command(app, exit_code);
  remora::add_sidecar_command(app, exit_code);
  remora::add_hold_command(app, exit_code);
  remora::intercept::add_intercept_command(app, exit_code);
  remora::k8s::add_inject_command(app, exit_code);
  remora::k8s::add_operator_command(app, exit_code);
  remora::k8s::add_kubectl_command(app, exit_code);
  remora::add_incident_commands(app, exit_code);
  remora::checkpoint::add_snapshot_commands(app, exit_code, remora::take_live_snapshot);
  remora::add_status_commands(app, exit_code);
  remora::config::add_validate_command(app, exit_code);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Remora: rides beside an agent and keeps it healthy");
  app.set_version_flag("--version", "remora " REMORA_VERSION);
  int exit_code = 0;
  if (is_called(argc > 0 ? argv[0] : nullptr, remora::k8s::plugin_name)) {
    app.name("kubectl remora");
    remora::k8s::add_plugin_commands(app, exit_code);
  } else {
    add_commands(app, exit_code);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // 0 for --help and --version, 2 for everything that is wrong with the command line.
    return app.exit(error) == 0 ? 0 : remora::exit_usage;
  }
  return exit_code;
}
