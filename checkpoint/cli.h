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

// Asks a sidecar that uses this store to take a snapshot now; the id of it, or nothing when no
// sidecar runs there. The sidecar knows the state directory and can make the agent stand still.
using TakeByOwner = std::function<std::optional<Result<std::string>>(const std::string& store_dir)>;

// Adds the command `snapshot` to app. Running it sets exit_code, which must outlive app.
void add_snapshot_commands(CLI::App& app, int& exit_code, TakeByOwner take_by_owner = {});

}  // namespace remora::checkpoint
