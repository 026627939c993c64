// The sidecar's side of the link to the operator: tells it of incidents and snapshots, and carries
// out what it is asked. Healing never waits for it.
//
// The incident files in each agent's store are the queue: what the operator has not acknowledged is
// told again, after a lost connection and after a restart. All files are read and written on a
// worker. Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "config/annotations.h"
#include "k8s/link/client.h"
#include "sidecar/app/app.h"
#include "sidecar/app/report_mark.h"
#include "sidecar/app/request_record.h"
#include "sidecar/base/worker.h"

namespace remora {

// Sent and not acknowledged yet, of one agent.
inline constexpr size_t reports_under_way_max = 8;
// Of one agent, in memory; past it they are read from the store once there is room.
inline constexpr size_t reports_waiting_max = 128;
// Then the call is begun again.
inline constexpr int report_answer_ms_max = 60'000;
inline constexpr int reports_read_again_ms = 5'000;

class OperatorLink {
 public:
  // Puts the policy's settings in force; why not, or not all of them.
  using TakePolicy = std::function<std::string(config::PolicyValues)>;
  // app must outlive it.
  OperatorLink(App& app, const AppLink& settings, TakePolicy take_policy);
  ~OperatorLink();
  OperatorLink(const OperatorLink&) = delete;
  OperatorLink& operator=(const OperatorLink&) = delete;

  void start();
  // An incident was opened or closed.
  void tell(std::string_view agent, const Incident& incident);

 private:
  struct Agent {
    AgentUnit* unit = nullptr;
    std::string store;  // empty: incidents are not kept, and told while we live
    std::string claim;
    bool is_read = false;  // mark and record are those of the store
    bool has_more = false;
    ReportMark mark;
    RequestRecord requests;
    std::map<std::string, link::v1::IncidentReport> waiting;  // by id
    std::map<std::string, std::string> under_way;             // id: outcome that was sent
  };
  struct Read;

  Agent* find(std::string_view name);
  void read_store(Agent& agent);
  void on_read(const std::string& name, Read read);
  void save(const Agent& agent, std::string_view file, std::string text, Task then);
  void on_open();
  void on_message(const link::v1::OperatorMessage& message);
  void on_closed();
  void pump(Agent& agent);
  void tell_snapshots(Agent& agent);
  void on_acknowledged(const link::v1::Acknowledgement& word);
  void on_welcome(const link::v1::Welcome& welcome);
  void on_settings(const link::v1::Settings& settings);
  std::string trusted();

  // Requests (operator_link_requests.cc).
  void on_command(const link::v1::Command& command);
  void on_lease(const link::v1::Lease& lease);
  void carry_out(const std::string& name, const link::v1::Command& command);
  void end_request(const std::string& name, const std::string& id, const Result<std::string>& how,
                   std::string message);
  void answer(const Agent& agent, const DoneRequest& request);

  App& app_;
  Loop& loop_;
  const std::string pod_uid_;
  TakePolicy take_policy_;
  const std::string trusted_pem_;  // of the injection
  const std::string trusted_file_;
  std::string mounted_pem_;              // what it held last
  std::string learned_pem_;              // from the operator since then
  std::map<std::string, Agent> agents_;  // by container
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  Subscription answer_limit_;
  Subscription read_again_;
  WorkerThread worker_;
  link::Client client_;
};

}  // namespace remora
