// Is there an agent to send requests to? While there is none, requests wait here instead of
// failing. The supervisor opens and closes the gate; exchanges and tunnels wait at it.
#pragma once

#include <string>
#include <vector>

#include "sidecar/net/loop.h"

namespace remora {

class AgentGate {
 public:
  class Waiter {
   public:
    virtual ~Waiter() = default;
    // The agent is there (again). Posted, and not after leave().
    virtual void on_gate_open() = 0;
  };

  explicit AgentGate(Loop& loop) : loop_(loop) {}

  bool is_open() const { return open_; }
  // Bumped each time the gate opens: a request that came back from an older agent may be sent.
  uint64_t generation() const { return generation_; }
  void open();
  void close() { open_ = false; }

  void wait(Waiter& waiter) { waiting_.push_back(&waiter); }
  void leave(Waiter& waiter);
  size_t waiting() const { return waiting_.size(); }

 private:
  void release();

  Loop& loop_;
  bool open_ = false;
  uint64_t generation_ = 0;
  std::vector<Waiter*> waiting_;  // in order of arrival
  bool release_posted_ = false;
};

}  // namespace remora
