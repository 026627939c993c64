// One small file, published whole or not at all: written beside its name, fsynced, renamed, its
// directory fsynced. Blocks: worker thread or start-up only.
#pragma once

#include <string>
#include <string_view>

#include "sidecar/base/error.h"

namespace remora {

// Replaces directory/name. On failure the old file is as it was and nothing is left beside it.
// Temporary names begin with '.'. kNoSpace, kPermission, kIo.
Result<void> write_file_durably(const std::string& directory, std::string_view name,
                                std::string_view contents);
// kNotFound, kPermission, kIo, kLimitExceeded past bytes_max. Follows no symbolic link at its end.
Result<std::string> read_small_file(const std::string& path, size_t bytes_max);

}  // namespace remora
