// `remora status` and `remora drain`: the admin socket from the command line.
#pragma once

namespace CLI {
class App;
}

namespace remora {

// Exit codes of both commands.
inline constexpr int exit_status_ready = 0;        // the agent is ready; drain: asked for
inline constexpr int exit_status_unreachable = 1;  // no answer from a running Remora
inline constexpr int exit_status_usage = 2;        // no socket was named
inline constexpr int exit_status_not_ready = 3;    // Remora answers, the agent is not ready

// Adds both to app; running one prints to standard output and sets exit_code, which must outlive
// app. The socket is --admin SOCKET, else DIR/admin.sock of --store DIR, else $REMORA_ADMIN.
//
//   remora status [--admin SOCKET | --store DIR] [--json]
//   remora drain  [--admin SOCKET | --store DIR] [--pod-ends]
void add_status_commands(CLI::App& app, int& exit_code);

}  // namespace remora
