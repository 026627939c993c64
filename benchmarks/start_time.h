// How long a server takes from exec to its first good answer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sidecar/base/clock.h"
#include "sidecar/base/error.h"

namespace remora::bench {

struct StartPlan {
  uint16_t port = 0;
  int cpu = -1;  // -1: not pinned
  std::vector<std::string> command;
};

// Starts the command, asks 127.0.0.1:port until it answers 200, then ends the command (SIGTERM,
// SIGKILL after stop_ms_max) and waits for it. kTimeout past start_ms_max; kUnavailable when the
// command ends by itself, or when something listens on the port already.
inline constexpr int start_ms_max = 20'000;
inline constexpr int stop_ms_max = 10'000;
Result<Duration> time_to_first_reply(const Clock& clock, const StartPlan& plan);

}  // namespace remora::bench
