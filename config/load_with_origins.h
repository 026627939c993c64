// The loader for who wants to know where each value came from, too.
#pragma once

#include "config/load.h"
#include "config/origins.h"

namespace remora::config {

// As load_yaml. origins, empty before, has the place of each key that somebody wrote, and that of
// "": file_name.
LoadResult load_with_origins(std::string_view text, std::string_view file_name,
                             std::span<const Override> overrides, Origins& origins);

}  // namespace remora::config
