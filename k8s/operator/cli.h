// `remora operator`: the mutating webhook, the keeper of its certificate, and the reconciler.
#pragma once

namespace CLI {
class App;
}

namespace remora::k8s {

// Adds `operator` to app; running it sets exit_code, which must outlive app: 0 after SIGTERM, 1 for
// an environment that doesn't let it start, 2 for a wrong command line.
void add_operator_command(CLI::App& app, int& exit_code);

}  // namespace remora::k8s
