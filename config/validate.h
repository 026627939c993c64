// Checks that need more than one key, or more than a type and a range.
#pragma once

#include "config/origins.h"
#include "config/remora.pb.h"

namespace remora::config {

// Expects defaults filled in. Keys that already have a problem are left out, so that one mistake is
// reported once.
void validate(const Config& config, const Origins& origins, Reporter& reporter);

}  // namespace remora::config
