// The AgentSnapshots of the cluster, kept as the sidecars that are connected say, and the requests
// that people write into them, carried to the sidecars.
//
// Only the leader runs one, and every write carries its right to write. Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "k8s/agents/agent_plan.h"
#include "k8s/agents/identity_leases.h"
#include "k8s/api/client.h"
#include "k8s/healing/plan.h"
#include "k8s/watch/object_cache.h"
#include "k8s/watch/refused_writes.h"
#include "k8s/watch/work_queue.h"
#include "sidecar/admin/metrics.h"

namespace remora::k8s {

// A sidecar that is away for less than this (a new leader, a restart) is not said to be.
inline constexpr int agent_gone_after_ms = 30'000;
inline constexpr int agent_gather_ms = 200;

struct CatalogueOptions {
  std::function<bool()> may_write;  // looked at right before each write is sent
  // To the sidecar of that pod.
  std::function<void(const std::string& pod_uid, const link::v1::OperatorMessage& message)> send;
  uint32_t seed = 1;
};

class Catalogue {
 public:
  // client and leases must outlive it.
  Catalogue(Loop& loop, ApiClient& client, IdentityLeases& leases, CatalogueOptions options,
            MetricRegistry& registry);
  Catalogue(const Catalogue&) = delete;
  Catalogue& operator=(const Catalogue&) = delete;
  ~Catalogue() = default;
  void start();

  void on_connected(ConnectedAgent agent);
  void on_gone(const std::string& pod_uid);
  void on_snapshots(const link::PodClaims& pod, const link::v1::SnapshotReport& report);
  void on_outcome(const link::PodClaims& pod, const link::v1::Outcome& outcome);

  size_t connected() const { return agents_.size(); }

  // What healing sees of the agents of a namespace.
  std::vector<AgentFacts> agents_of(const std::string& namespace_name) const;
  // Fences the identities that a pod has, before it is moved. done: what was fenced, in words;
  // empty: it has none.
  void fence(const std::string& namespace_name, const std::string& pod_uid,
             std::function<void(const Result<std::string>&)> done);
  // moved: it is on its way; else it stays, and so do its identities.
  void end_fence(const std::string& namespace_name, const std::string& pod_uid, bool moved);
  // Writes a request into an AgentSnapshot; done: whether it stands there now.
  void ask(const std::string& namespace_name, const std::string& agent,
           const v1alpha1::AgentRequest& request, std::function<void(const Result<void>&)> done);

 private:
  void on_object(const ObjectPtr& before, const ObjectPtr& after);
  void keep(const Object& object);
  ConnectedAgent* find_agent(const link::PodClaims& pod, const std::string& container);
  void look_soon(const std::string& key);
  void look(const std::string& key, WorkQueue::Done done);
  void ask_for_claim(const std::string& key, const ConnectedAgent& agent, WorkQueue::Done done);
  void on_claim(const std::string& key, const ApiRequest& request, const Result<ApiReply>& reply,
                WorkQueue::Done& done);
  void write(const std::string& key, const ApiRequest& request, WorkQueue::Done done);
  void on_written(const std::string& key, const ApiRequest& request, const Result<ApiReply>& reply,
                  WorkQueue::Done done);
  static std::string key_of(const ConnectedAgent& agent);
  // Their stores outlive the pod.
  std::vector<Identity> identities_of(const std::string& namespace_name,
                                      const std::string& pod_uid) const;
  void hold_identity(const ConnectedAgent& agent);
  void tell_lost(const ConnectedAgent& agent, uint64_t epoch, const std::string& holder);

  Loop& loop_;
  ApiClient& client_;
  IdentityLeases& leases_;
  const CatalogueOptions options_;
  Counter& failures_;
  RefusedWrites refused_;
  std::map<std::string, ConnectedAgent> agents_;     // by the key of their object
  std::map<std::string, MonotonicTime> gone_since_;  // the same
  std::map<std::string, AgentRecord> records_;       // the same
  std::map<std::string, std::unique_ptr<ApiCall>> calls_;
  std::map<uint64_t, std::unique_ptr<ApiCall>> requests_;
  uint64_t requests_made_ = 0;
  MonotonicTime began_at_{};
  ObjectCache cache_;
  WorkQueue queue_;
};

}  // namespace remora::k8s
