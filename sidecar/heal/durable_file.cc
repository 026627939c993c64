#include "sidecar/heal/durable_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sidecar/base/handle.h"

namespace remora {
namespace {

std::unexpected<Error> failed(std::string_view call, std::string_view path) {
  const int err = errno;
  return std::unexpected(
      error_from_errno(err, std::string(call).append(" ").append(path), ErrorSource::kStorage));
}

Result<void> write_all(int fd, std::string_view contents, const std::string& path) {
  while (!contents.empty()) {
    const ssize_t n = ::write(fd, contents.data(), contents.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed("write", path);
    contents.remove_prefix(static_cast<size_t>(n));
  }
  return {};
}

Result<void> write_and_sync(const std::string& path, std::string_view contents) {
  const UniqueFd file(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return failed("create", path);
  if (auto written = write_all(file.get(), contents, path); !written) return written;
  // An fsync that failed is never tried again: the kernel may have dropped the pages.
  if (::fsync(file.get()) != 0) return failed("fsync", path);
  return {};
}

}  // namespace

Result<void> write_file_durably(const std::string& directory, std::string_view name,
                                std::string_view contents) {
  const std::string path = std::string(directory).append("/").append(name);
  const std::string temporary = std::string(directory).append("/.").append(name).append(".tmp");
  const UniqueFd parent(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent) return failed("open", directory);
  if (auto written = write_and_sync(temporary, contents); !written) {
    ::unlink(temporary.c_str());
    return written;
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    auto error = failed("rename to", path);
    ::unlink(temporary.c_str());
    return error;
  }
  if (::fsync(parent.get()) != 0) return failed("fsync", directory);
  return {};
}

Result<std::string> read_small_file(const std::string& path, size_t bytes_max) {
  // Non-blocking, so that a FIFO put there doesn't stop us.
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file) return failed("open", path);
  std::string contents;
  while (true) {
    char piece[16 * 1024];
    const ssize_t n = ::read(file.get(), piece, sizeof piece);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed("read", path);
    if (n == 0) return contents;
    contents.append(piece, static_cast<size_t>(n));
    if (contents.size() > bytes_max) {
      return make_error(ErrorCode::kLimitExceeded, ErrorSource::kStorage,
                        std::string(path)
                            .append(": larger than ")
                            .append(std::to_string(bytes_max))
                            .append(" bytes"));
    }
  }
}

}  // namespace remora
