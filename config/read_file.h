// Reads a whole file of text that people or the kubelet wrote. Blocks; meant for start and reload.
#pragma once

#include <cstddef>
#include <string>

#include "sidecar/base/error.h"

namespace remora::config {

// kNotFound, kPermission, kIo when the file can't be read, kLimitExceeded when it is larger than
// bytes_max. "-" is not special.
Result<std::string> read_file(const std::string& path, size_t bytes_max);
// The same from an open descriptor, which stays open; name stands in errors.
Result<std::string> read_all(int fd, const std::string& name, size_t bytes_max);

}  // namespace remora::config
