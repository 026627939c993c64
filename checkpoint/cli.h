// `remora snapshot take|list|show|verify|restore|prune`: the store by hand.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "sidecar/base/error.h"

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

// Asks a sidecar that uses this store to take a snapshot now; the id of it, or nothing when no
// sidecar runs there. The sidecar knows the state directory and can make the agent stand still.
using TakeByOwner = std::function<std::optional<Result<std::string>>(const std::string& store_dir)>;

// Adds the command `snapshot` to app. Running it sets exit_code, which must outlive app.
void add_snapshot_commands(CLI::App& app, int& exit_code, TakeByOwner take_by_owner = {});

}  // namespace remora::checkpoint
