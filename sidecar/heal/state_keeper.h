// What healing needs of the agent's state; the snapshot coordinator is behind it
// (checkpoint/coordinator.h). Calls on the loop's thread; callbacks posted to it, exactly once.
#pragma once

#include <functional>
#include <string>

#include "sidecar/base/error.h"

namespace remora {

struct StateCheck {
  bool damaged = false;
  std::string problem;  // "memory.db: database disk image is malformed"; empty when intact
};

struct RestoredSnapshot {
  std::string id;
  int64_t taken_at_unix_ns = 0;
};

class StateKeeper {
 public:
  virtual ~StateKeeper() = default;
  // Is the state directory what an agent can start from? Compared with the latest snapshot: gone or
  // emptied, a database that fails its check, a file cut to nothing.
  virtual void check_state(std::move_only_function<void(Result<StateCheck>)> done) = 0;
  // Puts a snapshot back, by its id, or the latest intact one (id empty); the state is set aside,
  // never deleted. kNotFound when there is none.
  virtual void restore(const std::string& id,
                       std::move_only_function<void(Result<RestoredSnapshot>)> done) = 0;
};

}  // namespace remora
