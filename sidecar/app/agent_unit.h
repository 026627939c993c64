// Everything around one agent, made and wired here in visible order: its gate, proxy, probes,
// readings, snapshots, incidents and supervisor. App holds one of these for each agent; what runs
// the agent (a child process, a container) is given to it.
//
//   callers -> ProxyServer -> agent
//                  |             |
//     in-flight, bytes      exits, output
//                  v             v
//   ProgressSampler, Prober -> Supervisor (classify, decide, act) -> gate, orchestrator, snapshots
//
// Loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sidecar/admin/remora_metrics.h"
#include "sidecar/admin/source.h"
#include "sidecar/app/options_from_config.h"
#include "sidecar/app/snapshots.h"
#include "sidecar/heal/alert.h"
#include "sidecar/heal/incident_log.h"
#include "sidecar/heal/supervisor.h"
#include "sidecar/net/loop.h"
#include "sidecar/proxy/inbound_capture.h"
#include "sidecar/proxy/proxy_server.h"

namespace remora {

// A port on which an agent listens.
struct AgentPort {
  uint16_t port = 0;
  std::string protocol;       // as agent.appProtocol; empty: as that says
  uint16_t inbound_port = 0;  // where its callers come in; 0: see AppAgent::accepts
};

struct AppAgent {
  std::string name;
  config::Config config;
  // Beside agent.appPort, whose callers come in at inbound.listen. Without accepts nothing listens
  // for them either.
  std::vector<AgentPort> more_ports{};
  // False: callers come in elsewhere (InboundCapture).
  bool accepts = true;
  // See SupervisorOptions.
  bool clean_end_is_final = true;
  std::string restart_policy{};  // of its container: Always, OnFailure, Never; empty: it is ours
  bool ends_when_giving_up = true;
};

// What runs one agent.
struct AgentWorld {
  std::unique_ptr<Orchestrator> orchestrator;
  // A reloaded configuration, for the instances to come.
  std::move_only_function<void(const config::Config&)> reload = [](const config::Config&) {};
  // Its pod is being ended: from now on others stop it.
  std::move_only_function<void()> leave_stopping_to_others = [] {};
};

struct AgentUnitHooks {
  // Both once.
  std::move_only_function<void()> on_drained;  // its requests are done
  std::move_only_function<void(int exit_code)> on_finished;
  // Opened, closed.
  std::move_only_function<void(const Incident& incident)> on_incident;
};

class AgentUnit final : GateControl, DrainControl, RequestObserver {
 public:
  // Opens and binds everything; starts nothing.
  // Errors: a busy port, an unwritable store, a store of a newer format (kUnsupportedVersion), an
  // address that does not parse (kInvalidArgument).
  static Result<std::unique_ptr<AgentUnit>> create(Loop& loop, MetricRegistry& registry,
                                                   AppAgent agent, AgentWorld world,
                                                   AgentUnitHooks hooks);
  ~AgentUnit() override;
  AgentUnit(const AgentUnit&) = delete;
  AgentUnit& operator=(const AgentUnit&) = delete;

  void start() { supervisor_->start(); }
  // Drain, stop the agent, take the last snapshot; then on_finished. A second call hastens.
  // Callers are served on, and asked to go elsewhere.
  void announce_end();
  void shutdown() { supervisor_->shutdown(); }
  // All or nothing: check says what is wrong with a configuration, reload takes a checked one.
  Result<void> check(const config::Config& config) const;
  void reload(const config::Config& config);

  void leave_stopping_to_others() { world_.leave_stopping_to_others(); }

  const std::string& name() const { return name_; }
  const config::Config& config() const { return config_; }
  const Supervisor& supervisor() const { return *supervisor_; }
  const Prober& prober() const { return *prober_; }
  AdminReadiness readiness() const;
  AdminAgent status() const;
  // When the last caller connected, to any of its ports; nothing before the first.
  std::optional<MonotonicTime> last_caller_at() const;
  // Its ports, agent.appPort first.
  std::vector<InboundCapture::Route> capture_routes() const;
  bool has_snapshots() const { return snapshots_ != nullptr; }
  void take_snapshot(AdminDone done) { snapshots_->take("manual", std::move(done)); }
  Snapshots* snapshots() const { return snapshots_.get(); }  // null: it has none
  void order(AgentOrder order) { supervisor_->order(std::move(order)); }
  // Each as a JSON object, oldest first.
  Result<std::vector<std::string>> incidents() const;
  void collect_metrics();

 private:
  AgentUnit(Loop& loop, MetricRegistry& registry, AppAgent agent, AgentWorld world,
            AgentUnitHooks hooks);
  Result<void> open_store();
  std::vector<AgentPort> ports() const;
  Result<void> open_proxies();
  Result<void> open_proxy(const AgentPort& port);
  ProxyCounters counters() const;
  Result<void> make_health();
  void make_supervisor();
  void on_incident(const Incident& incident);
  void on_agent_started(const AgentInstance& instance);
  void on_agent_stopped();
  void on_probe_result(const ProbeResult& result);
  void set_serving(bool serving);
  InFlight in_flight() const;
  std::vector<std::string> in_flight_texts() const;

  // GateControl
  void agent_up(uint64_t generation) override;
  void agent_down(std::string_view reason) override;
  // DrainControl
  void begin_drain(Duration wait_max, Task done) override;
  // RequestObserver
  void on_request_finished(const ExchangeInfo& info) override;

  Loop& loop_;
  const std::string name_;
  config::Config config_;
  const std::vector<AgentPort> more_ports_;
  const bool accepts_;
  AgentWorld world_;
  const bool clean_end_is_final_;
  const bool ends_when_giving_up_;
  AgentUnitHooks hooks_;
  AgentInstance agent_;  // pid 0: none runs
  MonotonicTime agent_started_at_{};
  std::optional<AdminIncident> last_incident_;

  // In order of making; destroyed in reverse.
  AgentGate gate_;
  AgentMetrics metrics_;
  ListenerMetrics inbound_metrics_;
  std::unique_ptr<Snapshots> snapshots_;  // none without a store and a state directory
  std::unique_ptr<IncidentLog> incidents_;
  std::unique_ptr<ExecAlerter> alerter_;
  std::vector<std::unique_ptr<ProxyServer>> proxies_;  // none without an appPort, whose is first
  std::unique_ptr<Prober> prober_;
  std::unique_ptr<ProgressSampler> sampler_;
  std::unique_ptr<Supervisor> supervisor_;
};

}  // namespace remora
