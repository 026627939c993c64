#include "sidecar/net/file_watch.h"

#include <array>
#include <filesystem>
#include <utility>

#include <sys/inotify.h>
#include <sys/stat.h>

#include "sidecar/base/error.h"
#include "sidecar/base/log.h"

namespace remora {
namespace {

constexpr uint32_t directory_signs = IN_MOVED_TO | IN_CREATE | IN_CLOSE_WRITE | IN_DELETE;
// Of the file itself: one that is mounted alone is changed in a directory that we don't see.
constexpr uint32_t file_signs = IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB;

}  // namespace

FileWatch::FileWatch(Loop& loop, std::vector<std::string> files, Task on_change)
    : loop_(loop), files_(std::move(files)), on_change_(std::move(on_change)) {
  fd_.reset(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (fd_) {
    watch_all();
    inotify_ = loop_.watch_fd(fd_.get(), FdEvents::kRead, [this](FdEvents) { on_sign(); });
  } else {
    log_warn("files_polled", {{"reason", error_from_errno(errno, "inotify_init1").message},
                              {"every_s", file_watch_poll_s}});
  }
  for (const std::string& file : files_) seen_.push_back(look_at(file));
  schedule_poll();
}

FileWatch::Look FileWatch::look_at(const std::string& file) {
  struct stat info{};
  if (::stat(file.c_str(), &info) != 0) return {};
  return {.device = info.st_dev,
          .inode = info.st_ino,
          .size = info.st_size,
          .changed_s = info.st_mtim.tv_sec,
          .changed_ns = info.st_mtim.tv_nsec};
}

// The same watch made again is the same watch; a file that was replaced needs a new one. One that
// can't be made is made up for by the poll.
void FileWatch::watch_all() {
  for (const std::string& file : files_) {
    std::string directory = std::filesystem::path(file).parent_path().string();
    if (directory.empty()) directory = ".";
    ::inotify_add_watch(fd_.get(), directory.c_str(), directory_signs);
    ::inotify_add_watch(fd_.get(), file.c_str(), file_signs);
  }
}

void FileWatch::on_sign() {
  std::array<char, 4096> events;
  // Which it was doesn't matter. What is more than this comes back at once: level-triggered.
  if (::read(fd_.get(), events.data(), events.size()) <= 0 || settle_) return;
  settle_ = loop_.add_timer(std::chrono::milliseconds(file_watch_settle_ms), [this] {
    settle_.cancel();
    look();
  });
}

void FileWatch::schedule_poll() {
  poll_ = loop_.add_timer(std::chrono::seconds(file_watch_poll_s), [this] {
    schedule_poll();
    look();
  });
}

void FileWatch::look() {
  if (fd_) watch_all();
  std::vector<Look> now;
  for (const std::string& file : files_) now.push_back(look_at(file));
  if (now == seen_) return;
  seen_ = std::move(now);
  on_change_();
}

}  // namespace remora
