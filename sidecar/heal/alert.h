// Telling people. Every alert is a log event ("alert"); ExecAlerter also runs a command with the
// incident as JSON on its standard input.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sidecar/base/worker.h"
#include "sidecar/heal/incident.h"
#include "sidecar/net/loop.h"

namespace remora {

// After so long the command is killed with its process group: it has failed.
inline constexpr int64_t alert_command_wait_ms_max = 10'000;
// Alerts waiting for the one that runs; past it they are logged only.
inline constexpr size_t alerts_waiting_max = 16;

class Alerter {
 public:
  virtual ~Alerter() = default;
  // Loop thread; done is posted to the loop once people have been told, or can't be (which is
  // logged).
  virtual void alert(const Incident& incident, Task done) = 0;
};

class ExecAlerter final : public Alerter {
 public:
  // command may be empty: alerts are logged, nothing else.
  ExecAlerter(Loop& loop, std::vector<std::string> command);
  ExecAlerter(const ExecAlerter&) = delete;
  ExecAlerter& operator=(const ExecAlerter&) = delete;
  ~ExecAlerter() override;
  void alert(const Incident& incident, Task done) override;

 private:
  Loop& loop_;
  std::vector<std::string> command_;
  UniqueFd cancel_;  // readable once we are being destroyed
  size_t waiting_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::unique_ptr<WorkerThread> worker_;
};

}  // namespace remora
