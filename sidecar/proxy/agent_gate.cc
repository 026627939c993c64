#include "sidecar/proxy/agent_gate.h"

#include <algorithm>

namespace remora {

void AgentGate::open() {
  if (!open_) ++generation_;
  open_ = true;
  if (release_posted_ || waiting_.empty()) return;
  release_posted_ = true;
  loop_.post([this] { release(); });
}

void AgentGate::release() {
  release_posted_ = false;
  // A waiter may come back at once (its connect failed again): it then waits for the next opening.
  std::vector<Waiter*> released;
  released.swap(waiting_);
  for (size_t i = 0; i < released.size() && open_; ++i) {
    released[i]->on_gate_open();
    released[i] = nullptr;
  }
  // The gate closed in between: the rest keeps its place before those who came later.
  std::erase(released, nullptr);
  waiting_.insert(waiting_.begin(), released.begin(), released.end());
}

void AgentGate::leave(Waiter& waiter) { std::erase(waiting_, &waiter); }

}  // namespace remora
