// `remora run`: supervises an agent as a child process and carries its traffic.
#pragma once

namespace CLI {
class App;
}

namespace remora {

// Adds `run` to app; running it sets exit_code, which must outlive app. Exit codes:
// those of command.h, otherwise the agent's (sidecar/heal/supervisor.h).
void add_run_command(CLI::App& app, int& exit_code);

}  // namespace remora
