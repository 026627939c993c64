// The command `remora validate`.
#pragma once

namespace CLI {
class App;
}

namespace remora::config {

// Adds `validate FILE [--json]` and `validate --schema` to app. When the command runs it prints to
// standard output and sets exit_code: 0 the file is good, 1 it has problems, 2 it can't be read or
// the command line is wrong.
void add_validate_command(CLI::App& app, int& exit_code);

}  // namespace remora::config
