// Heals pods from outside: watches pods, nodes, policies and Incidents, asks plan_namespace() what
// is to be done whenever something has changed, and carries it out.
//
// Only the leader runs one; every write carries its right to write to the moment when it is sent.
// What it knows of Incidents is the newer of what the watch has told and of what its own writes
// were answered, so that no decision is made on a picture from before its last one.
//
// Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "k8s/api/client.h"
#include "k8s/healing/alert_sender.h"
#include "k8s/healing/metrics.h"
#include "k8s/healing/plan.h"
#include "k8s/watch/object_cache.h"
#include "k8s/watch/work_queue.h"
#include "sidecar/otlp/exporter.h"

namespace remora::k8s {

// What happens within it is one look.
inline constexpr int heal_gather_ms = 100;
inline constexpr int heal_actions_per_look_max = 50;
// Of one namespace, that wait to be kept; past it sidecars come again later.
inline constexpr size_t heal_reports_waiting_max = 5'000;
// Bookmarks come about once a minute; two may be missed.
inline constexpr int heal_picture_age_ms_max = 150'000;

// What is known of the agents whose sidecars are connected, and what can be done with them. Each
// may be left empty.
struct AgentHooks {
  std::function<std::vector<AgentFacts>(const std::string& namespace_name)> agents{};
  // Before a pod is moved that can't be asked. done: what was fenced, in words; empty: nothing
  // needed to be.
  std::function<void(const std::string& namespace_name, const std::string& pod_uid,
                     std::function<void(const Result<std::string>&)> done)>
      fence{};
  // moved: it is on its way; else it stays.
  std::function<void(const std::string& namespace_name, const std::string& pod_uid, bool moved)>
      end_fence{};
  // Asks an agent's sidecar for something; done: whether that is written down.
  std::function<void(const std::string& namespace_name, const AskAgent& ask,
                     std::function<void(const Result<void>&)> done)>
      ask{};
};

struct HealingOptions {
  BudgetRule namespace_budget{};
  BudgetRule fleet_budget{};
  std::string instance;              // in Events
  std::function<bool()> may_write;   // looked at right before each write is sent
  AlertSender* alerts = nullptr;     // must outlive the controller; null: nobody is told
  otlp::Exporter* traces = nullptr;  // the same
  uint32_t seed = 1;
};

class HealingController {
 public:
  // client and policies, all HealingPolicies, must outlive it.
  HealingController(Loop& loop, ApiClient& client, ObjectCache& policies, HealingOptions options,
                    MetricRegistry& registry);
  ~HealingController();
  HealingController(const HealingController&) = delete;
  HealingController& operator=(const HealingController&) = delete;
  void start();
  void set_agents(AgentHooks hooks) { agents_ = std::move(hooks); }
  // Also while it is being deleted; true as long as pods are not known.
  bool has_pod(const std::string& namespace_name, const std::string& uid) const;
  // What stands after the registry's own metrics, as they were rendered last.
  std::string policy_series() const { return metrics_.policy_series(); }

  // kept is called once the report stands in an Incident; never for one that is given up: at the
  // end of this, or past the limits. A report of the same key replaces it.
  using Kept = std::function<void(const SidecarReport&)>;
  void report(const std::string& namespace_name, SidecarReport report, Kept kept);
  // What the sidecar of that pod has said of its policy's settings.
  void settings_told(const std::string& namespace_name, const std::string& uid, ToldSettings told);

  // Null when there is none, or another life of its name; of this moment only.
  const PodFacts* find_pod(const std::string& namespace_name, const std::string& name,
                           const std::string& uid) const;
  std::set<std::string> namespaces_with_sidecars() const;

 private:
  struct Look;
  using LookPtr = std::shared_ptr<Look>;
  struct Place {  // what is known of one namespace
    std::map<std::string, PodFacts> pods;
    std::map<std::string, PolicyRecord> policies;
    std::map<std::string, IncidentRecord> incidents;
    std::map<std::string, PolicyMemory> memory;
    std::map<std::string, WorkloadFacts> workloads;  // by the owner of their pods
    std::map<std::string, PodEvents> events;         // by the UID of their pod
    std::map<std::string, ClaimFacts> claims;        // by name
    std::map<std::string, SidecarReport> reports;
    std::map<std::string, Kept> kept;          // of the reports
    std::map<std::string, ToldSettings> told;  // by the UID of their pod
  };
  using Member = void (HealingController::*)(const ObjectPtr&, const ObjectPtr&);
  void listen(ObjectCache& cache, Member member);
  void on_pod(const ObjectPtr& before, const ObjectPtr& after);
  void on_node(const ObjectPtr& before, const ObjectPtr& after);
  void on_policy(const ObjectPtr& before, const ObjectPtr& after);
  void on_incident(const ObjectPtr& before, const ObjectPtr& after);
  void acknowledge(Place& place, const std::vector<std::string>& kept);
  void look_soon(const std::string& namespace_name);
  void look(const std::string& namespace_name, WorkQueue::Done done);
  void picture();
  int steps_left(const PolicyRecord& policy,
                 const std::map<std::string, IncidentRecord>& incidents) const;
  NamespaceView view_of(const std::string& namespace_name, const Place& place) const;
  void forget_old(Place& place) const;
  void tell_people(const std::string& namespace_name, const Place& place) const;
  void end(const LookPtr& look);
  std::string out_of_date() const;

  void act(const LookPtr& look, const OpenIncident& action);
  void act(const LookPtr& look, const UpdateIncident& action);
  void act(const LookPtr& look, const EvictPod& action);
  void act(const LookPtr& look, const RollBack& action);
  void act(const LookPtr& look, const ResizePod& action);
  void act(const LookPtr& look, const ReadWorkload& action);
  void act(const LookPtr& look, const ReadPodEvents& action);
  void act(const LookPtr& look, const ReadClaims& action);
  void act(const LookPtr& look, const AskAgent& action);
  void tell_leaving(const LookPtr& look, const AskAgent& action);
  void act(const LookPtr& look, const KeepDrain& action);
  void act(const LookPtr& look, const EndDrain& action);
  void act(const LookPtr& look, const DeleteIncident& action);
  void act(const LookPtr& look, const UpdatePolicy& action);
  void fence(const LookPtr& look, const EvictPod& action);
  void evict(const LookPtr& look, const EvictPod& action);
  void read_attachments(const LookPtr& look, const std::string& claim, ClaimFacts facts);
  void keep_claim(const LookPtr& look, const std::string& claim, ClaimFacts facts);
  void on_evicted(const LookPtr& look, const EvictPod& action, const Result<ApiReply>& reply);
  void delete_unready(const LookPtr& look, const EvictPod& action);
  void end_eviction(const LookPtr& look, const EvictPod& action, StepOutcome outcome,
                    const std::string& message);
  void end_write(const LookPtr& look, const IncidentRecord& incident, const ApiRequest& request,
                 const ApiReply& reply);
  void read(const LookPtr& look, const ReadWorkload& action, std::string path,
            std::function<void(const Json&)> then);
  void read_revisions(const LookPtr& look, const ReadWorkload& action, const Json& workload);
  void keep_workload(const LookPtr& look, const ReadWorkload& action, WorkloadFacts workload);
  void tell(const LookPtr& look, const IncidentRecord& incident, const std::string& reason,
            const std::string& message);
  // Sends it in the leader's name; then(reply) comes before the look can end.
  void send(const LookPtr& look, ApiRequest request,
            std::function<void(const Result<ApiReply>&)> then);
  void judge(const LookPtr& look, const ApiRequest& request, const Result<ApiReply>& reply,
             bool conflict_is_fine);
  void keep(const std::string& namespace_name, const Json& incident);
  IncidentRecord* find_incident(const std::string& namespace_name, const std::string& name);

  Loop& loop_;
  ApiClient& client_;
  const HealingOptions options_;
  AgentHooks agents_;
  HealingMetrics metrics_;
  std::map<std::string, Place> places_;
  std::map<std::string, NodeFacts> nodes_;
  StepLedger fleet_;
  ObjectCache pods_;
  ObjectCache node_cache_;
  ObjectCache& policies_;
  ObjectCache incidents_;
  // Steps that are being written down: they count in the fleet's budget before their Incidents say
  // so, for looks at several namespaces go on at the same time.
  int steps_under_way_ = 0;
  uint64_t calls_made_ = 0;
  std::map<uint64_t, std::unique_ptr<ApiCall>> calls_;
  WorkQueue queue_;
  std::string trouble_;  // logged
};

}  // namespace remora::k8s
