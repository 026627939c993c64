// A ruleset in nft syntax, for people (--dry-run) and for `nft -f`.
#pragma once

#include <string>

#include "sidecar/intercept/ruleset.h"

namespace remora::intercept {

// A whole file: loading it with `nft -f` gives the same table as `remora intercept` does.
std::string to_nft_text(const Ruleset& ruleset);

}  // namespace remora::intercept
