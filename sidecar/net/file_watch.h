// Tells when files have other contents than before, whoever changed them and however: written in
// place, renamed over, or by a swap of the link that they are reached through, as the kubelet does
// it in the volumes of a pod (DIR/FILE -> ..data/FILE, ..data -> a new directory).
//
// inotify only says when to look; what counts is that stat() gives another file, size or time. So a
// wake-up too many changes nothing, and one that never comes (a network file system, no watches
// left) is made up for by looking every file_watch_poll_s seconds.
//
// Loop thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sidecar/base/handle.h"
#include "sidecar/net/loop.h"

namespace remora {

inline constexpr int file_watch_poll_s = 10;
// From the first sign of a change until the files are looked at: whoever writes several, or one in
// pieces, is done by then.
inline constexpr int file_watch_settle_ms = 100;

class FileWatch {
 public:
  // Files that don't exist are watched too, as long as their directory does. on_change is called
  // once for all that has changed since the last call; it must not destroy the watch.
  FileWatch(Loop& loop, std::vector<std::string> files, Task on_change);

  // False: the kernel gives no signs, so changes are found by looking.
  bool has_signs() const { return inotify_ != nullptr; }

 private:
  // What tells one content from the next.
  struct Look {
    uint64_t device = 0;
    uint64_t inode = 0;
    int64_t size = -1;  // -1: there is none
    int64_t changed_s = 0;
    int64_t changed_ns = 0;
    bool operator==(const Look&) const = default;
  };

  static Look look_at(const std::string& file);
  void watch_all();
  void on_sign();
  void look();
  void schedule_poll();

  Loop& loop_;
  const std::vector<std::string> files_;
  Task on_change_;
  std::vector<Look> seen_;
  UniqueFd fd_;
  std::unique_ptr<FdWatch> inotify_;
  Subscription settle_;
  Subscription poll_;
};

}  // namespace remora
