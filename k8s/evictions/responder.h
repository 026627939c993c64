// The operator as a responder of Kubernetes' Eviction API: watches Evictions, asks plan_eviction()
// what is to be done when one changes, and carries it out.
//
// Only the leader runs one, and every write carries its right to write. Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "k8s/api/client.h"
#include "k8s/evictions/eviction_plan.h"
#include "k8s/watch/object_cache.h"
#include "k8s/watch/refused_writes.h"
#include "k8s/watch/work_queue.h"
#include "sidecar/admin/metrics.h"

namespace remora::k8s {

struct EvictionResponderOptions {
  std::function<bool()> may_write;  // looked at right before each write is sent
  // The connected agents of a namespace.
  std::function<std::vector<AgentFacts>(const std::string& namespace_name)> agents;
  // Writes the request into the AgentSnapshot; done: whether it stands there now.
  std::function<void(const std::string& namespace_name, const AskAgent& ask,
                     std::function<void(const Result<void>&)> done)>
      ask;
  uint32_t seed = 1;
};

class EvictionResponder {
 public:
  // client must outlive it.
  EvictionResponder(Loop& loop, ApiClient& client, EvictionResponderOptions options,
                    MetricRegistry& registry);
  EvictionResponder(const EvictionResponder&) = delete;
  EvictionResponder& operator=(const EvictionResponder&) = delete;
  ~EvictionResponder() = default;
  void start() { cache_.start(); }

 private:
  void look(const std::string& key, WorkQueue::Done done);
  void ask(const EvictionRecord& record, const EvictionPlan& plan);
  void say(const std::string& key, const EvictionRecord& record, const EvictionPlan& plan,
           WorkQueue::Done done);

  Loop& loop_;
  ApiClient& client_;
  const EvictionResponderOptions options_;
  Counter& completed_;
  Counter& failures_;
  RefusedWrites refused_;
  std::map<std::string, std::unique_ptr<ApiCall>> calls_;  // by the key of the Eviction
  // Lets go of answers that come after the end.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  ObjectCache cache_;
  WorkQueue queue_;
};

}  // namespace remora::k8s
