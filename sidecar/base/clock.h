// The only place where time comes from. Code takes a Clock (or a MonotonicTime argument), never
// std::chrono::*_clock::now(), so that tests and the simulation own time.
#pragma once

#include <chrono>

namespace remora {

using Duration = std::chrono::nanoseconds;
using MonotonicTime = std::chrono::time_point<std::chrono::steady_clock, Duration>;
using WallTime = std::chrono::time_point<std::chrono::system_clock, Duration>;

class Clock {
 public:
  virtual ~Clock() = default;
  // For intervals and deadlines; never goes back.
  virtual MonotonicTime now() const = 0;
  // For records that people read; may jump.
  virtual WallTime wall_now() const = 0;
};

class SystemClock final : public Clock {
 public:
  MonotonicTime now() const override {
    return std::chrono::time_point_cast<Duration>(std::chrono::steady_clock::now());
  }
  WallTime wall_now() const override {
    return std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
  }
};

inline double to_seconds(Duration d) { return std::chrono::duration<double>(d).count(); }
inline int64_t to_ms(Duration d) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(d).count();
}
// Nanoseconds since the Unix epoch: the form in which times are stored.
inline int64_t to_unix_ns(WallTime t) { return t.time_since_epoch().count(); }

}  // namespace remora
