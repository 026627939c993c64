// Structured logs: one JSON object a line, {"time":…,"level":…,"event":…,<fields>}, to stderr.
//
// A line is rendered in the caller's thread into a bounded buffer and written by a thread of its
// own, so that a reader of stderr that stalls never stalls the data path. Past
// log_backlog_bytes_max lines are dropped and counted; the count is logged once there is room
// ("log_lines_dropped"). Values are escaped; secrets are the caller's duty to leave out (never log
// header values or bodies).
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

namespace remora {

inline constexpr size_t log_backlog_bytes_max = 1 << 20;
// At exit too: a reader that has stalled must not keep the process from ending.
inline constexpr int log_flush_ms_max = 1000;

enum class LogLevel { kDebug, kInfo, kWarn, kError, kOff };

struct LogField {
  std::string_view key;
  std::variant<std::string_view, int64_t, uint64_t, double, bool> value;

  LogField(std::string_view k, std::string_view v) : key(k), value(v) {}
  LogField(std::string_view k, const char* v) : key(k), value(std::string_view(v)) {}
  LogField(std::string_view k, const std::string& v) : key(k), value(std::string_view(v)) {}
  LogField(std::string_view k, bool v) : key(k), value(v) {}
  LogField(std::string_view k, double v) : key(k), value(v) {}
  template <typename I>
    requires std::is_integral_v<I>
  LogField(std::string_view k, I v) : key(k) {
    if constexpr (std::is_signed_v<I>) {
      value = static_cast<int64_t>(v);
    } else {
      value = static_cast<uint64_t>(v);
    }
  }
};

// Renders one log line (with its newline) at the given wall time in nanoseconds; pure.
std::string render_log_line(int64_t unix_ns, LogLevel level, std::string_view event,
                            std::initializer_list<LogField> fields);

void log_event(LogLevel level, std::string_view event, std::initializer_list<LogField> fields = {});
inline void log_debug(std::string_view e, std::initializer_list<LogField> f = {}) {
  log_event(LogLevel::kDebug, e, f);
}
inline void log_info(std::string_view e, std::initializer_list<LogField> f = {}) {
  log_event(LogLevel::kInfo, e, f);
}
inline void log_warn(std::string_view e, std::initializer_list<LogField> f = {}) {
  log_event(LogLevel::kWarn, e, f);
}
inline void log_error(std::string_view e, std::initializer_list<LogField> f = {}) {
  log_event(LogLevel::kError, e, f);
}

void set_log_level(LogLevel level);
LogLevel log_level();

// Waits until every line so far is written, at most log_flush_ms_max. Call before exec or abort;
// exit does it by itself.
void flush_log();

}  // namespace remora
