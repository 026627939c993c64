// What of a configuration a running Remora can't take over: sockets that are open, directories that
// are in use, whom it looks after. Pure.
#pragma once

#include <string>
#include <vector>

#include "config/remora.pb.h"

namespace remora {

// Keys that differ and count from the next start on only; empty when a reload takes all.
std::vector<std::string> keys_for_next_start(const config::Config& before,
                                             const config::Config& after);

}  // namespace remora
