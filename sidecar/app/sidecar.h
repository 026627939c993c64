// `remora sidecar`: rides beside agents that somebody else starts, in a pod or a Compose service.
#pragma once

namespace CLI {
class App;
}

namespace remora {

// Exit codes as for `remora run`, the agents' own codes left out: 0 once it was told to end.
void add_sidecar_command(CLI::App& app, int& exit_code);

}  // namespace remora
