#include "sidecar/base/log.h"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <ctime>
#include <memory>
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

// The thread starts with the first line, so that short commands that log nothing start none.
class Writer {
 public:
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
      if (!std::exchange(started_, true)) std::thread([this] { run(); }).detach();
    }
    if (was_empty) wake_.notify_one();
  }

  void flush() {
    std::unique_lock lock(mutex_);
    idle_.wait_for(lock, std::chrono::milliseconds(log_flush_ms_max),
                   [this] { return pending_.empty() && !writing_; });
  }

 private:
  void run() {
    std::string batch;
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return !pending_.empty(); });
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
  bool started_ = false;
  bool writing_ = false;
};

class FlushAtExit {
 public:
  explicit FlushAtExit(Writer& writer) : writer_(writer) {}
  ~FlushAtExit() { writer_.flush(); }
  FlushAtExit(const FlushAtExit&) = delete;
  FlushAtExit& operator=(const FlushAtExit&) = delete;

 private:
  Writer& writer_;
};

// Never destroyed: at exit its thread may still be in a write that nobody reads.
Writer& writer() {
  static Writer* const instance = std::make_unique<Writer>().release();
  static const FlushAtExit flush_at_exit(*instance);
  return *instance;
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
    } else if (const auto* number = std::get_if<double>(&field.value);
               number != nullptr && !std::isfinite(*number)) {
      line += "null";  // JSON has no infinity and no NaN
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
