#include "sidecar/base/log.h"

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <ctime>
#include <mutex>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "sidecar/base/clock.h"
#include "sidecar/base/json_text.h"

namespace remora {
namespace {

std::atomic<LogLevel> g_level{LogLevel::kInfo};

std::string_view level_name(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarn:
      return "warn";
    case LogLevel::kError:
      return "error";
    case LogLevel::kOff:
      break;
  }
  return "off";
}

void write_all(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(STDERR_FILENO, bytes.data(), bytes.size());
    if (n > 0) {
      bytes.remove_prefix(static_cast<size_t>(n));
    } else if (n < 0 && errno == EAGAIN) {
      pollfd p{STDERR_FILENO, POLLOUT, 0};
      ::poll(&p, 1, -1);
    } else if (n < 0 && errno != EINTR) {
      return;  // stderr is gone: there is nobody left to tell
    }
  }
}

// The thread starts with the first line, so that short commands that log nothing start none. It is
// joined at exit, after what is in the buffer has been written.
class Writer {
 public:
  ~Writer() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    if (thread_.joinable()) thread_.join();
  }

  void append(std::string_view line) {
    bool was_empty = false;
    {
      const std::lock_guard lock(mutex_);
      if (pending_.size() + line.size() > log_backlog_bytes_max) {
        ++dropped_;
        return;
      }
      was_empty = pending_.empty();
      pending_.append(line);
      if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
    }
    if (was_empty) wake_.notify_one();
  }

  void flush() {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return pending_.empty() && !writing_; });
  }

 private:
  void run() {
    std::string batch;
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return stopping_ || !pending_.empty(); });
      if (pending_.empty()) return;
      batch.swap(pending_);
      const uint64_t dropped = std::exchange(dropped_, 0);
      writing_ = true;
      lock.unlock();
      write_all(batch);
      if (dropped > 0) {
        write_all(render_log_line(to_unix_ns(SystemClock().wall_now()), LogLevel::kWarn,
                                  "log_lines_dropped", {{"count", dropped}}));
      }
      batch.clear();
      lock.lock();
      writing_ = false;
      if (pending_.empty()) idle_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  std::string pending_;
  uint64_t dropped_ = 0;
  bool stopping_ = false;
  bool writing_ = false;
  std::thread thread_;
};

Writer& writer() {
  static Writer instance;
  return instance;
}

}  // namespace

std::string render_log_line(int64_t unix_ns, LogLevel level, std::string_view event,
                            std::initializer_list<LogField> fields) {
  const time_t seconds = unix_ns / 1'000'000'000;
  tm utc{};
  gmtime_r(&seconds, &utc);
  std::string line =
      fmt::format(R"({{"time":"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z","level":"{}","event":")",
                  utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min,
                  utc.tm_sec, unix_ns % 1'000'000'000 / 1000, level_name(level));
  append_json_escaped(line, event);
  line += '"';
  for (const LogField& field : fields) {
    line += ",\"";
    append_json_escaped(line, field.key);
    line += "\":";
    if (const auto* text = std::get_if<std::string_view>(&field.value)) {
      line += '"';
      append_json_escaped(line, *text);
      line += '"';
    } else {
      std::visit(
          [&line](auto v) {
            if constexpr (!std::is_same_v<decltype(v), std::string_view>) {
              fmt::format_to(std::back_inserter(line), "{}", v);
            }
          },
          field.value);
    }
  }
  line += "}\n";
  return line;
}

void log_event(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  if (level < g_level.load(std::memory_order_relaxed)) return;
  writer().append(render_log_line(to_unix_ns(SystemClock().wall_now()), level, event, fields));
}

void set_log_level(LogLevel level) { g_level.store(level, std::memory_order_relaxed); }
LogLevel log_level() { return g_level.load(std::memory_order_relaxed); }
void flush_log() { writer().flush(); }

}  // namespace remora
