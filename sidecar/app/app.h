// The composition root of `remora run`: everything is made, wired and taken down here, in visible
// order. Nothing else knows all the parts.
//
//   callers -> ProxyServer -> agent (child process)
//                  |             |
//     in-flight, bytes      exits, output
//                  v             v
//   ProgressSampler, Prober -> Supervisor (classify, decide, act) -> gate, child, snapshots
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "config/isolated_load.h"
#include "sidecar/admin/server.h"
#include "sidecar/app/options_from_config.h"
#include "sidecar/app/snapshots.h"
#include "sidecar/heal/alert.h"
#include "sidecar/heal/incident_log.h"
#include "sidecar/heal/supervisor.h"
#include "sidecar/local/child_agent.h"
#include "sidecar/net/event_loop.h"
#include "sidecar/proxy/proxy_server.h"

namespace remora {

class App final : GateControl, DrainControl, RequestObserver {
 public:
  using Reload = std::move_only_function<Result<config::IsolatedLoad>()>;

  // Opens and binds everything; starts nothing. Errors: a busy port, an unwritable store, a store
  // of a newer format (kUnsupportedVersion), an address that does not parse (kInvalidArgument).
  static Result<std::unique_ptr<App>> create(config::IsolatedLoad config, Reload reload);
  ~App() override;

  // Until the agent has ended for good; returns the exit code.
  int run();

 private:
  App(config::IsolatedLoad config, Reload reload);
  Result<void> open_store();
  Result<void> open_proxy();
  Result<void> open_admin();
  Result<void> make_health();
  void make_supervisor();
  AdminSource admin_source();
  AdminReadiness readiness() const;
  AdminStatus status() const;
  void list_incidents(AdminDone done) const;
  void collect_metrics();
  void on_incident(const Incident& incident);
  void set_serving(bool serving);
  void watch_signals();
  void reload();
  void on_agent_started(const AgentInstance& instance);
  void on_agent_stopped();
  void on_probe_result(const ProbeResult& result);
  InFlight in_flight() const;
  std::vector<std::string> in_flight_texts() const;

  // GateControl
  void agent_up(uint64_t generation) override;
  void agent_down(std::string_view reason) override;
  // DrainControl
  void begin_drain(Duration wait_max, Task done) override;
  // RequestObserver
  void on_request_finished(const ExchangeInfo& info) override;

  config::IsolatedLoad loaded_;
  const config::Config& config_ = loaded_.config;
  Reload reload_;
  int exit_code_ = 0;
  AgentInstance agent_;  // pid 0: none runs
  MonotonicTime agent_started_at_{};
  std::optional<AdminIncident> last_incident_;

  // In order of making; destroyed in reverse.
  EventLoop loop_;
  const MonotonicTime began_at_ = loop_.clock().now();
  AgentGate gate_{loop_};
  MetricRegistry registry_;
  RemoraMetrics metrics_;
  ListenerMetrics inbound_metrics_{registry_, "inbound"};
  std::unique_ptr<Snapshots> snapshots_;  // none without a store and a state directory
  std::unique_ptr<IncidentLog> incidents_;
  std::unique_ptr<ExecAlerter> alerter_;
  std::unique_ptr<ProxyServer> proxy_;  // none without an appPort
  std::unique_ptr<ChildAgent> child_;
  std::unique_ptr<Prober> prober_;
  std::unique_ptr<ProgressSampler> sampler_;
  std::unique_ptr<Supervisor> supervisor_;
  std::unique_ptr<AdminServer> admin_;  // none without a socket or a port
  std::vector<Subscription> signals_;
  Subscription trim_;
};

}  // namespace remora
