// The kernel's file system behind the seam, and helpers written in terms of the seam.
#include "checkpoint/file_system.h"

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <ranges>
#include <thread>

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "checkpoint/errors.h"
#include "sidecar/base/handle.h"

namespace remora::checkpoint {
namespace {

constexpr int lock_poll_ms = 10;
constexpr size_t link_target_bytes_max = 4096;

std::unexpected<Error> failed(std::string_view call, std::string_view path, int err = errno) {
  std::string what(call);
  what.append(" ").append(path);
  Error error = error_from_errno(err, what, ErrorSource::kStorage);
  if (err == ELOOP) error.code = ErrorCode::kPermission;
  if (err == EBUSY || err == EXDEV) error.code = ErrorCode::kUnavailable;
  return std::unexpected<Error>(std::move(error));
}

// Component by component with O_NOFOLLOW, for kernels and sandboxes without openat2.
int open_by_walking(const std::string& path, int flags, mode_t mode) {
  UniqueFd at(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!at) return -1;
  size_t begin = 1;
  while (true) {
    const size_t slash = path.find('/', begin);
    const std::string name = path.substr(begin, slash - begin);
    if (slash == std::string::npos) {
      return ::openat(at.get(), name.empty() ? "." : name.c_str(), flags | O_NOFOLLOW, mode);
    }
    UniqueFd next(::openat(at.get(), name.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (!next) return -1;
    at = std::move(next);
    begin = slash + 1;
  }
}

int open_without_links(const std::string& path, int flags, mode_t mode = 0) {
  open_how how{};
  how.flags = static_cast<uint64_t>(flags) | O_CLOEXEC;
  how.mode = mode;
  how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const long fd = ::syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof how);
  if (fd < 0 && (errno == ENOSYS || errno == EPERM)) {
    return open_by_walking(path, flags | O_CLOEXEC, mode);
  }
  return static_cast<int>(fd);
}

// The directory that holds path's last component.
UniqueFd open_parent(const std::string& path) {
  return UniqueFd(open_without_links(std::string(parent_of(path)), O_PATH | O_DIRECTORY));
}

std::string last_name(const std::string& path) { return std::string(name_of(path)); }

int64_t to_ns(const statx_timestamp& t) {
  return int64_t{t.tv_sec} * 1'000'000'000 + static_cast<int64_t>(t.tv_nsec);
}

FileType type_of(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return FileType::kDirectory;
    case S_IFLNK:
      return FileType::kSymlink;
    case S_IFSOCK:
      return FileType::kSocket;
    case S_IFIFO:
      return FileType::kFifo;
    case S_IFREG:
      return FileType::kRegular;
    default:
      return FileType::kDevice;
  }
}

Result<FileStat> stat_fd(int fd, const char* name, std::string_view path) {
  struct statx st{};
  if (::statx(fd, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &st) != 0) {
    return failed("stat", path);
  }
  FileStat out;
  out.type = type_of(st.stx_mode);
  out.mode = st.stx_mode & 07777;
  out.uid = st.stx_uid;
  out.gid = st.stx_gid;
  out.size = st.stx_size;
  out.mtime_ns = to_ns(st.stx_mtime);
  out.ctime_ns = to_ns(st.stx_ctime);
  out.inode = st.stx_ino;
  out.device = makedev(st.stx_dev_major, st.stx_dev_minor);
  out.mount_root = (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
  return out;
}

class RealReadableFile final : public ReadableFile {
 public:
  RealReadableFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Result<size_t> read_at(uint64_t offset, std::span<char> out) override {
    size_t done = 0;
    while (done < out.size()) {
      const ssize_t n = ::pread(fd_.get(), out.data() + done, out.size() - done,
                                static_cast<off_t>(offset + done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return failed("read", path_);
      if (n == 0) break;
      done += static_cast<size_t>(n);
    }
    return done;
  }
  Result<FileStat> stat() override { return stat_fd(fd_.get(), "", path_); }

 private:
  UniqueFd fd_;
  std::string path_;
};

class RealWritableFile final : public WritableFile {
 public:
  RealWritableFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Result<void> write(std::string_view bytes) override {
    while (!bytes.empty()) {
      const ssize_t n = ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(size_));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return failed("write", path_);
      bytes.remove_prefix(static_cast<size_t>(n));
      size_ += static_cast<uint64_t>(n);
    }
    return {};
  }
  Result<void> skip(uint64_t bytes) override {
    size_ += bytes;
    hole_at_end_ = true;
    return {};
  }
  Result<void> finish() override {
    if (hole_at_end_ && ::ftruncate(fd_.get(), static_cast<off_t>(size_)) != 0) {
      return failed("truncate", path_);
    }
    const auto st = stat_fd(fd_.get(), "", path_);
    if (!st) return std::unexpected<Error>(st.error());
    if (st->size != size_) {
      return storage_error(ErrorCode::kIo, path_ + ": length after writing is " +
                                               std::to_string(st->size) + ", expected " +
                                               std::to_string(size_));
    }
    return {};
  }
  Result<void> sync() override {
    if (auto finished = finish(); !finished) return finished;
    if (::fsync(fd_.get()) != 0) return failed("fsync", path_);
    return {};
  }
  uint64_t size() const override { return size_; }

 private:
  UniqueFd fd_;
  std::string path_;
  uint64_t size_ = 0;
  bool hole_at_end_ = false;
};

class RealFileLock final : public FileLock {
 public:
  explicit RealFileLock(UniqueFd fd) : fd_(std::move(fd)) {}

 private:
  UniqueFd fd_;  // closing it drops the lock
};

class RealFileSystem final : public FileSystem {
 public:
  Result<std::unique_ptr<ReadableFile>> open(const std::string& path) override {
    // O_NONBLOCK: a fifo that took a file's place must not hang us.
    UniqueFd fd(open_without_links(path, O_RDONLY | O_NONBLOCK | O_NOCTTY));
    if (!fd) return failed("open", path);
    return std::make_unique<RealReadableFile>(std::move(fd), path);
  }

  Result<std::unique_ptr<WritableFile>> create(const std::string& path, uint32_t mode) override {
    UniqueFd fd(open_without_links(path, O_WRONLY | O_CREAT | O_EXCL, mode));
    if (!fd) return failed("create", path);
    return std::make_unique<RealWritableFile>(std::move(fd), path);
  }

  Result<void> make_directory(const std::string& path, uint32_t mode) override {
    const UniqueFd parent = open_parent(path);
    if (!parent || ::mkdirat(parent.get(), last_name(path).c_str(), mode) != 0) {
      return failed("mkdir", path);
    }
    return {};
  }

  Result<void> make_symlink(const std::string& target, const std::string& path) override {
    const UniqueFd parent = open_parent(path);
    if (!parent || ::symlinkat(target.c_str(), parent.get(), last_name(path).c_str()) != 0) {
      return failed("symlink", path);
    }
    return {};
  }

  Result<void> rename(const std::string& from, const std::string& to) override {
    return rename_with(from, to, 0);
  }

  Result<void> exchange(const std::string& a, const std::string& b) override {
    return rename_with(a, b, RENAME_EXCHANGE);
  }

  Result<void> remove_file(const std::string& path) override {
    const UniqueFd parent = open_parent(path);
    if (!parent || ::unlinkat(parent.get(), last_name(path).c_str(), 0) != 0) {
      return failed("remove", path);
    }
    return {};
  }

  Result<void> remove_directory(const std::string& path) override {
    const UniqueFd parent = open_parent(path);
    if (!parent || ::unlinkat(parent.get(), last_name(path).c_str(), AT_REMOVEDIR) != 0) {
      return failed("remove directory", path);
    }
    return {};
  }

  Result<void> sync_directory(const std::string& path) override {
    const UniqueFd fd(open_without_links(path, O_RDONLY | O_DIRECTORY));
    if (!fd || ::fsync(fd.get()) != 0) return failed("fsync directory", path);
    return {};
  }

  Result<void> sync_volume(const std::string& path) override {
    const UniqueFd fd(open_without_links(path, O_RDONLY | O_DIRECTORY));
    if (!fd || ::syncfs(fd.get()) != 0) return failed("syncfs", path);
    return {};
  }

  Result<void> set_metadata(const std::string& path, const OwnerAndTimes& what) override {
    const UniqueFd parent = open_parent(path);
    if (!parent) return failed("open parent of", path);
    const std::string name = last_name(path);
    auto st = stat_fd(parent.get(), name.c_str(), path);
    if (!st) return pass_on(st);
    // chown before chmod: chown clears bits.
    if (what.set_owner &&
        ::fchownat(parent.get(), name.c_str(), what.uid, what.gid, AT_SYMLINK_NOFOLLOW) != 0) {
      return failed("chown", path);
    }
    if (st->type != FileType::kSymlink &&
        ::fchmodat(parent.get(), name.c_str(), what.mode & 07777, 0) != 0) {
      return failed("chmod", path);
    }
    constexpr int64_t ns_per_s = 1'000'000'000;
    int64_t seconds = what.mtime_ns / ns_per_s;
    int64_t rest = what.mtime_ns % ns_per_s;
    if (rest < 0) {
      rest += ns_per_s;
      --seconds;
    }
    const timespec mtime{.tv_sec = seconds, .tv_nsec = rest};
    const timespec times[2] = {mtime, mtime};
    if (::utimensat(parent.get(), name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) {
      return failed("set times of", path);
    }
    return {};
  }

  Result<FileStat> stat(const std::string& path) override {
    const UniqueFd parent = open_parent(path);
    if (!parent) return failed("stat", path);
    const std::string name = last_name(path);
    return stat_fd(parent.get(), name.c_str(), path);
  }

  Result<std::vector<DirectoryEntry>> list(const std::string& path) override {
    UniqueFd fd(open_without_links(path, O_RDONLY | O_DIRECTORY));
    if (!fd) return failed("open directory", path);
    const CHandle<DIR, ::closedir> dir(::fdopendir(fd.get()));
    if (!dir) return failed("open directory", path);
    static_cast<void>(fd.release());  // closedir owns it now
    std::vector<DirectoryEntry> entries;
    while (true) {
      errno = 0;
      const dirent* entry = ::readdir(dir.get());
      if (entry == nullptr) break;
      const std::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      if (entries.size() == directory_entries_max) {
        return storage_error(ErrorCode::kLimitExceeded, path + ": too many entries");
      }
      entries.push_back({std::string(name)});
    }
    if (errno != 0) return failed("read directory", path);
    std::ranges::sort(entries, {}, &DirectoryEntry::name);
    return entries;
  }

  Result<std::string> read_link(const std::string& path) override {
    const UniqueFd parent = open_parent(path);
    std::string target(link_target_bytes_max, '\0');
    const ssize_t n =
        !parent ? -1
                : ::readlinkat(parent.get(), last_name(path).c_str(), target.data(), target.size());
    if (n < 0) return failed("read link", path);
    target.resize(static_cast<size_t>(n));
    return target;
  }

  Result<SpaceInfo> space(const std::string& path) override {
    const UniqueFd fd(open_without_links(path, O_RDONLY | O_DIRECTORY));
    struct statvfs st{};
    if (!fd || ::fstatvfs(fd.get(), &st) != 0) return failed("statvfs", path);
    return SpaceInfo{.free_bytes = uint64_t{st.f_bavail} * st.f_frsize,
                     .total_bytes = uint64_t{st.f_blocks} * st.f_frsize};
  }

  Result<std::unique_ptr<FileLock>> lock(const std::string& path, LockKind kind,
                                         Duration wait_max) override {
    UniqueFd fd(open_without_links(path, O_RDWR | O_CREAT, 0600));
    if (!fd) fd.reset(open_without_links(path, O_RDONLY));  // a store that may only be read
    if (!fd) return failed("open lock", path);
    const int operation = (kind == LockKind::kShared ? LOCK_SH : LOCK_EX) | LOCK_NB;
    for (int64_t waited_ms = 0;; waited_ms += lock_poll_ms) {
      if (::flock(fd.get(), operation) == 0) return std::make_unique<RealFileLock>(std::move(fd));
      if (errno == EINTR) continue;
      if (errno != EWOULDBLOCK) return failed("lock", path);
      if (waited_ms >= to_ms(wait_max)) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(lock_poll_ms));
    }
    return storage_error(ErrorCode::kUnavailable, path + " is held by another process", true);
  }

 private:
  static Result<void> rename_with(const std::string& from, const std::string& to, unsigned flags) {
    const UniqueFd from_parent = open_parent(from);
    const UniqueFd to_parent = open_parent(to);
    if (!from_parent || !to_parent ||
        ::renameat2(from_parent.get(), last_name(from).c_str(), to_parent.get(),
                    last_name(to).c_str(), flags) != 0) {
      const int err = errno;
      auto error = failed("rename " + from + " to", to, err);
      // The file system, or the kernel, knows no such renaming.
      if (flags != 0 && (err == EINVAL || err == ENOSYS)) {
        error.error().code = ErrorCode::kUnavailable;
      }
      return error;
    }
    return {};
  }
};

}  // namespace

FileSystem& real_file_system() {
  static RealFileSystem fs;
  return fs;
}

Result<std::string> canonical(std::string_view path) {
  if (path.empty() || path.find('\0') != std::string_view::npos) {
    return storage_error(ErrorCode::kInvalidArgument, "an empty path; name a directory");
  }
  std::string text(path);
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  if (const CHandle<char, ::free> whole(::realpath(text.c_str(), nullptr)); whole) {
    return std::string(whole.get());
  }
  if (errno != ENOENT) return failed("resolve", text);
  const size_t slash = text.rfind('/');
  const std::string name = slash == std::string::npos ? text : text.substr(slash + 1);
  const std::string parent =
      slash == std::string::npos ? "." : (slash == 0 ? "/" : text.substr(0, slash));
  const CHandle<char, ::free> resolved(::realpath(parent.c_str(), nullptr));
  if (!resolved) return failed("resolve", parent);
  if (name == "." || name == "..") return failed("resolve", text, ENOENT);
  return join(resolved.get(), name);
}

std::string join(std::string_view directory, std::string_view name) {
  std::string path(directory);
  if (name.empty()) return path;
  if (!path.ends_with('/')) path += '/';
  return path.append(name);
}

std::string_view parent_of(std::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos || slash == 0) return "/";
  return path.substr(0, slash);
}

std::string_view name_of(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

Result<std::string> read_small_file(FileSystem& fs, const std::string& path, size_t bytes_max) {
  auto file = fs.open(path);
  if (!file) return pass_on(file);
  auto st = (*file)->stat();
  if (!st) return pass_on(st);
  if (st->type != FileType::kRegular) return corrupt(path + " is not a regular file");
  if (st->size > bytes_max) {
    return storage_error(ErrorCode::kLimitExceeded,
                         path + " is larger than " + std::to_string(bytes_max) + " bytes");
  }
  std::string bytes(st->size, '\0');
  auto n = (*file)->read_at(0, bytes);
  if (!n) return pass_on(n);
  bytes.resize(*n);
  return bytes;
}

Result<void> write_durably(FileSystem& fs, const std::string& path, std::string_view bytes) {
  auto file = fs.create(path, 0600);
  if (!file) return pass_on(file);
  if (auto done = (*file)->write(bytes); !done) return done;
  if ((*file)->size() != bytes.size()) return storage_error(ErrorCode::kIo, "short write");
  return (*file)->sync();
}

Result<void> write_atomically(FileSystem& fs, const std::string& temp_path, const std::string& path,
                              std::string_view bytes) {
  auto done = write_durably(fs, temp_path, bytes);
  if (done) done = fs.rename(temp_path, path);
  if (done) done = fs.sync_directory(std::string(parent_of(path)));
  // Best effort: the error that matters is the first one; leftovers are swept with tmp/.
  if (!done) best_effort(fs.remove_file(temp_path));
  return done;
}

Result<void> remove_tree(FileSystem& fs, const std::string& path) {
  auto st = fs.stat(path);
  if (!st) {
    if (st.error().code == ErrorCode::kNotFound) return {};
    return pass_on(st);
  }
  if (st->type != FileType::kDirectory) return fs.remove_file(path);
  // An explicit stack: depth is the tree's, not ours to spend on the call stack.
  std::vector<std::string> pending{path};
  std::vector<std::string> directories;
  while (!pending.empty()) {
    const std::string directory = std::move(pending.back());
    pending.pop_back();
    auto entries = fs.list(directory);
    if (!entries) return pass_on(entries);
    for (const DirectoryEntry& entry : *entries) {
      std::string child = join(directory, entry.name);
      auto child_stat = fs.stat(child);
      if (!child_stat) return pass_on(child_stat);
      if (child_stat->type == FileType::kDirectory) {
        pending.push_back(std::move(child));
      } else if (auto done = fs.remove_file(child); !done) {
        return done;
      }
    }
    directories.push_back(directory);
  }
  for (const std::string& directory : std::views::reverse(directories)) {
    if (auto done = fs.remove_directory(directory); !done) return done;
  }
  return {};
}

std::string random_name() {
  uint64_t value = 0;
  while (::getrandom(&value, sizeof value, 0) != static_cast<ssize_t>(sizeof value)) {
  }
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

}  // namespace remora::checkpoint
