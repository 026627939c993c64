// `remora hold`: the first process of the namespaces that an agent and its sidecar share where no
// pod does that for them (Compose).
//
// When the first process of a process namespace ends, the kernel kills all others in it, and Docker
// doesn't start a container again that joined one which isn't running. So neither the agent nor the
// sidecar may be that process: either must be able to die without the other. This one does nothing
// that can fail: it collects orphans and ends at SIGTERM or SIGINT.
#pragma once

namespace CLI {
class App;
}

namespace remora {

// exit_code: 0 after a signal to end.
void add_hold_command(CLI::App& app, int& exit_code);

}  // namespace remora
