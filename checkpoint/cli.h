// `remora snapshot take|list|show|verify|restore|prune`: the store by hand.
#pragma once

namespace CLI {
class App;
}

namespace remora::checkpoint {

// Exit codes, documented in FORMAT.md.
inline constexpr int exit_ok = 0;
inline constexpr int exit_failed = 1;
inline constexpr int exit_usage = 2;
inline constexpr int exit_damaged = 3;       // verify found damage
inline constexpr int exit_newer_format = 4;  // the store was written by a newer remora

// Adds the command `snapshot` to app. Running it sets exit_code, which must outlive app.
void add_snapshot_commands(CLI::App& app, int& exit_code);

}  // namespace remora::checkpoint
