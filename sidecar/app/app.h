// The composition root of a running Remora: everything is made, wired and taken down here, in
// visible order. `remora run` has one agent, its child; `remora sidecar` has the agents of its pod.
// What belongs to one agent is in AgentUnit; what they share is here: loop, metrics, admin,
// signals.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/isolated_load.h"
#include "sidecar/admin/server.h"
#include "sidecar/app/agent_unit.h"
#include "sidecar/app/gateways.h"
#include "sidecar/net/event_loop.h"
#include "sidecar/net/file_watch.h"
#include "sidecar/otlp/exporter.h"
#include "sidecar/proxy/outbound.h"

namespace remora {

// Where the operator hears this sidecar.
struct AppLink {
  std::string host;
  uint16_t port = 0;
  std::string trusted_pem;   // as of the injection
  std::string trusted_file;  // as of now, once the kubelet has brought it
  std::string claim;         // of the store; empty: the store goes with the pod
  std::string token_file;
  bool is_redirected = false;  // the pod's traffic is: ours must be told from it
};

// A whole configuration, as it was loaded or reloaded.
struct AppConfig {
  config::Config shared;         // of admin and log
  std::vector<AppAgent> agents;  // at least one; a reload may not change their names
  // Where all agents' callers arrive; none: each agent's own inbound.listen.
  std::optional<SocketAddress> capture;
  std::optional<OutboundOptions> outbound;
  std::optional<AppLink> link{};  // of a pod
  // Not empty: this is the last good one, and why the newest is not taken.
  std::string refused{};
  std::string yaml;  // what is in force, secrets redacted
  std::string json;
};

// What tells one command from another.
struct AppRole {
  std::move_only_function<AgentWorld(Loop&, const AppAgent&)> make_world;
  std::move_only_function<Result<AppConfig>()> reload;
  // Files that reload reads; a change of theirs reloads by itself. None: only SIGHUP does.
  std::vector<std::string> watched_files{};
  // Outlives its agents: only a signal ends it.
  bool stays = false;
  // Between the end of readiness and the end of service: by then nobody sends anything here.
  Duration leave_delay{0};
};

// The last caller came so shortly before the end of service: others will come after it.
inline constexpr int newcomer_ms_max = 2'000;
// From the kubelet's hearing that the pod is not Ready to the last node's sending nobody here.
inline constexpr int unrouted_ms = 2'000;
// So long callers are refused at most; it is taken from the pod's grace period.
inline constexpr int refusing_ms_max = 5'000;

class App {
 public:
  // Opens and binds everything; starts nothing. Errors: those of AgentUnit::create, and a busy
  // admin socket or port.
  static Result<std::unique_ptr<App>> create(AppConfig config, AppRole role);
  ~App();
  App(const App&) = delete;
  App& operator=(const App&) = delete;

  // Until the agents have ended for good; returns the exit code: the first one that isn't 0.
  int run();

  // For what a role adds. All on the loop's thread.
  Loop& loop() { return loop_; }
  EventLoop& event_loop() { return loop_; }
  const std::vector<std::unique_ptr<AgentUnit>>& units() const { return units_; }
  AdminReadiness readiness() const;
  // Whether all agents may begin: their state was checked, and restored where that was needed.
  AdminReadiness started() const;
  std::string render_metrics() { return registry_.render(); }
  // Of every agent, opened and closed; before run().
  using TellIncident = std::move_only_function<void(std::string_view agent, const Incident&)>;
  void tell_incidents(TellIncident tell) { tell_incident_ = std::move(tell); }
  // Ends all agents: readiness goes, after leave_delay the last requests are done, then the agents
  // end. Every further call hastens.
  void shutdown();
  // The same, with the agents stopped by somebody else once their requests are done. pod_ends: its
  // deletion has already told the Services, which come back to a pod that is Ready as long as they
  // have no other; so readiness stays until leave_delay is over.
  void leave(bool pod_ends);
  bool leaving() const { return leaving_; }
  // What readiness is to say.
  bool turns_callers_away() const { return leaving_ && (draining_ || !pod_ends_); }
  // The kubelet has been told so.
  void note_told_not_ready();
  // done is called with true once the end has begun, with false when it has not within wait.
  void when_leaving(Duration wait, std::move_only_function<void(bool leaving)> done);
  // done is called once no agent has a request any more, and the pod's network may go: new callers
  // have stopped coming, or have been refused for long enough. At once when it is so already.
  void when_drained(Task done);
  // Takes the configuration as it is now, or says why not and keeps the last good one.
  void reload();
  // The same, but nothing is done where nothing has changed.
  void reload_if_changed();
  const AdminConfig& reloads() const { return reloads_; }

 private:
  App(AppConfig config, AppRole role);
  Result<void> make_units();
  Result<void> open_capture();
  Result<void> open_outbound();
  Result<void> open_gateways();
  Result<void> open_admin();
  void open_traces();
  void export_trace(std::string_view agent, const Incident& incident);
  AdminSource admin_source();
  AdminStatus status() const;
  void list_incidents(AdminDone done) const;
  void take_snapshot(std::string_view agent, AdminDone done);
  void watch_signals();
  void watch_files();
  void take(AppConfig fresh);
  void refuse_reload(const std::string& why);
  void on_drained();
  bool is_drained() const { return drained_ == units_.size() && !refusing_; }
  void refuse_for_a_while();
  void end_refusing();
  void finish_drain_waiters();
  void on_finished(int exit_code);
  void stop_if_over();
  Result<void> check(const AppConfig& fresh) const;

  AppConfig config_;
  AppRole role_;
  TellIncident tell_incident_;
  int exit_code_ = 0;
  size_t drained_ = 0;
  size_t finished_ = 0;
  bool leaving_ = false;
  bool pod_ends_ = false;
  bool draining_ = false;  // leave_delay is over
  bool refusing_ = false;  // the pod stays for callers who still come, to refuse them
  Subscription refusing_limit_;
  Subscription unrouted_timer_;
  bool stopping_ = false;
  AdminConfig reloads_;
  std::vector<config::Config> started_with_;  // of each agent
  struct LeaveWaiter {
    std::move_only_function<void(bool leaving)> done;
    Subscription limit;
  };
  std::list<LeaveWaiter> leave_waiters_;
  std::vector<Task> drain_waiters_;

  // In order of making; destroyed in reverse.
  EventLoop loop_;
  const MonotonicTime began_at_ = loop_.clock().now();
  MetricRegistry registry_;
  AppMetrics metrics_{registry_, REMORA_VERSION};
  std::unique_ptr<otlp::Exporter> traces_;  // none without a collector
  std::vector<std::unique_ptr<AgentUnit>> units_;
  std::unique_ptr<InboundCapture> capture_;
  std::unique_ptr<OutboundServer> outbound_;
  std::unique_ptr<Gateways> gateways_;  // none without any
  std::unique_ptr<AdminServer> admin_;  // none without a socket or a port
  std::vector<Subscription> signals_;
  std::unique_ptr<FileWatch> file_watch_;  // none without watched files
  Subscription trim_;
  Subscription leave_timer_;
};

}  // namespace remora
