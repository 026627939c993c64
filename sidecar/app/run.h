// `remora run`: supervises an agent as a child process and carries its traffic.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace remora {

// Exit codes of `remora run` itself; otherwise it passes on the agent's
// (sidecar/heal/supervisor.h).
inline constexpr int exit_environment = 1;  // busy port, unwritable directory, …: mend and retry
inline constexpr int exit_usage = 2;        // command line or configuration
inline constexpr int exit_newer_store = 4;  // the store was written by a newer Remora

// Adds `run` to app; running it sets exit_code, which must outlive app.
void add_run_command(CLI::App& app, int& exit_code);

}  // namespace remora
