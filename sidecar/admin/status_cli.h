// `remora status`, `drain` and `wait-started`: the admin socket from the command line.
#pragma once

namespace CLI {
class App;
}

namespace remora {

// Exit codes: 0 the agent is ready, drain was asked for, or it has started; 1 no answer from a
// running Remora; 2 no socket was named; 3 Remora answers, the agent is not ready, or not in time.
//
// Adds them to app; running one prints to standard output and sets exit_code, which must outlive
// app. The socket is --admin SOCKET, else DIR/admin.sock of --store DIR, else $REMORA_ADMIN.
//
//   remora status [--admin SOCKET | --store DIR] [--json]
//   remora drain  [--admin SOCKET | --store DIR] [--pod-ends]
//   remora wait-started [--admin SOCKET | --store DIR] [--limit SECONDS]
void add_status_commands(CLI::App& app, int& exit_code);

}  // namespace remora
