// The command `remora inject`.
#pragma once

namespace CLI {
class App;
}

namespace remora::k8s {

// Adds `inject -f FILE` to app. When the command runs it prints the injected manifests, or with
// --explain words, to standard output, and sets exit_code: 0 done, 1 something is wrong inside the
// manifests (each with its document and mend on standard error, and nothing on standard output),
// 2 the file can't be read or the command line is wrong.
void add_inject_command(CLI::App& app, int& exit_code);

}  // namespace remora::k8s
