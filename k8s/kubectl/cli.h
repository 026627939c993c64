// `remora kubectl …`, and the same as `kubectl remora …` when the program is called kubectl-remora.
#pragma once

#include <string_view>

namespace CLI {
class App;
}

namespace remora::k8s {

// kubectl runs what it finds under this name in the PATH.
inline constexpr std::string_view plugin_name = "kubectl-remora";

// Adds `kubectl` with its commands to app.
void add_kubectl_command(CLI::App& app, int& exit_code);
// Adds the commands alone: app is the plugin. Running one sets exit_code: 0 done, 1 the cluster
// can't be asked or says no, 2 the command line, 3 what was asked for can't be done now.
void add_plugin_commands(CLI::App& app, int& exit_code);

}  // namespace remora::k8s
