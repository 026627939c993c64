#include "config/read_file.h"

#include <cerrno>

#include <fcntl.h>
#include <unistd.h>

#include "sidecar/base/handle.h"

namespace remora::config {

Result<std::string> read_all(int fd, const std::string& name, size_t bytes_max) {
  std::string text;
  char chunk[16 * 1024];
  while (true) {
    const ssize_t n = ::read(fd, chunk, sizeof chunk);
    if (n == 0) return text;
    if (n < 0) {
      if (errno == EINTR) continue;
      return std::unexpected(error_from_errno(errno, "read " + name, ErrorSource::kConfig));
    }
    text.append(chunk, static_cast<size_t>(n));
    if (text.size() > bytes_max) {
      return make_error(
          ErrorCode::kLimitExceeded, ErrorSource::kConfig,
          "read " + name + ": larger than " + std::to_string(bytes_max) + " bytes; shorten it");
    }
  }
}

Result<std::string> read_file(const std::string& path, size_t bytes_max) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return std::unexpected(error_from_errno(errno, "read " + path, ErrorSource::kConfig));
  return read_all(fd.get(), path, bytes_max);
}

}  // namespace remora::config
