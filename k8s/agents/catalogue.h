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
#include "k8s/api/client.h"
#include "k8s/watch/object_cache.h"
#include "k8s/watch/work_queue.h"
#include "sidecar/admin/metrics.h"

namespace remora::k8s {

// A sidecar that is away for less than this (a new leader, a restart) is not said to be.
inline constexpr int agent_gone_after_ms = 30'000;
inline constexpr int agent_gather_ms = 200;

struct CatalogueOptions {
  std::function<bool()> may_write;  // looked at right before each write is sent
  // To the sidecar of that pod.
  std::function<void(const std::string& pod_uid, const link::v1::Command& command)> send;
  uint32_t seed = 1;
};

class Catalogue {
 public:
  // client must outlive it.
  Catalogue(Loop& loop, ApiClient& client, CatalogueOptions options, MetricRegistry& registry);
  Catalogue(const Catalogue&) = delete;
  Catalogue& operator=(const Catalogue&) = delete;
  void start();

  void on_connected(ConnectedAgent agent);
  void on_gone(const std::string& pod_uid);
  void on_snapshots(const link::PodClaims& pod, const link::v1::SnapshotReport& report);
  void on_outcome(const link::PodClaims& pod, const link::v1::Outcome& outcome);

  size_t connected() const { return agents_.size(); }

 private:
  void on_object(const ObjectPtr& before, const ObjectPtr& after);
  void keep(const Object& object);
  ConnectedAgent* find_agent(const link::PodClaims& pod, const std::string& container);
  void look_soon(const std::string& key);
  void look(const std::string& key, WorkQueue::Done done);
  void write(const std::string& key, const ApiRequest& request, WorkQueue::Done done);
  void on_written(const std::string& key, const ApiRequest& request, const Result<ApiReply>& reply,
                  WorkQueue::Done done);
  static std::string key_of(const ConnectedAgent& agent);

  Loop& loop_;
  ApiClient& client_;
  const CatalogueOptions options_;
  Counter& failures_;
  std::map<std::string, ConnectedAgent> agents_;     // by the key of their object
  std::map<std::string, MonotonicTime> gone_since_;  // the same
  std::map<std::string, AgentRecord> records_;       // the same
  std::map<std::string, std::unique_ptr<ApiCall>> calls_;
  MonotonicTime began_at_{};
  std::string trouble_;  // logged
  ObjectCache cache_;
  WorkQueue queue_;
};

}  // namespace remora::k8s
