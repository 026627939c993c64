// `remora snapshot take` on a store that a running Remora uses: that Remora takes it.
#pragma once

#include <optional>
#include <string>

#include "sidecar/base/error.h"

namespace remora {

// The new snapshot's id; nothing when no Remora that keeps its snapshots there listens on
// STORE/admin.sock or on $REMORA_ADMIN, which injected sidecars have.
std::optional<Result<std::string>> take_live_snapshot(const std::string& store_dir);

}  // namespace remora
