#include "k8s/evictions/responder.h"

#include <utility>

#include "k8s/api/problem.h"
#include "k8s/api/writes.h"
#include "sidecar/base/log.h"

namespace remora::k8s {
namespace {

constexpr const char* evictions_path = "/apis/lifecycle.k8s.io/v1alpha1/evictions";

}  // namespace

EvictionResponder::EvictionResponder(Loop& loop, ApiClient& client,
                                     EvictionResponderOptions options, MetricRegistry& registry)
    : loop_(loop),
      client_(client),
      options_(std::move(options)),
      completed_(registry.counter("remora_operator_evictions_completed_total",
                                  "Evictions whose turn at Remora's responder is over.")),
      failures_(registry.counter("remora_operator_eviction_failures_total",
                                 "Answers about Evictions, and requests for a last snapshot, that "
                                 "failed.")),
      refused_("eviction_not_written", "eviction", failures_),
      cache_(loop, client,
             {.path = evictions_path, .trim = trim_eviction, .seed = options_.seed + 5}),
      queue_(loop, {.workers_max = 8, .seed = options_.seed + 5},
             [this](const std::string& key, WorkQueue::Done done) { look(key, std::move(done)); }) {
  cache_.on_change([this](const ObjectPtr& before, const ObjectPtr& after) {
    queue_.add((after != nullptr ? *after : *before).key());
  });
}

void EvictionResponder::look(const std::string& key, WorkQueue::Done done) {
  const ObjectPtr eviction = cache_.find(key);
  const auto record = eviction == nullptr ? std::nullopt : read_eviction(*eviction);
  if (!record) return done({});
  const EvictionPlan plan =
      plan_eviction(*record, options_.agents(record->namespace_name), loop_.clock().wall_now());
  ask(*record, plan);
  if (plan.status.empty()) return done({.again_after = plan.look_again});
  say(key, *record, plan, std::move(done));
}

void EvictionResponder::ask(const EvictionRecord& record, const EvictionPlan& plan) {
  for (const AskAgent& wanted : plan.ask) {
    options_.ask(record.namespace_name, wanted,
                 [this, wanted, alive = std::weak_ptr<bool>(alive_)](const Result<void>& asked) {
                   if (alive.expired()) return;
                   if (asked) {
                     return log_info("snapshot_asked", {{"pod", wanted.pod}, {"why", wanted.why}});
                   }
                   // It is asked again at the next look.
                   failures_.add();
                   log_warn("snapshot_not_asked",
                            {{"pod", wanted.pod}, {"error", asked.error().message}});
                 });
  }
}

void EvictionResponder::say(const std::string& key, const EvictionRecord& record,
                            const EvictionPlan& plan, WorkQueue::Done done) {
  ApiRequest request = apply_status_request({.group = "lifecycle.k8s.io",
                                             .version = "v1alpha1",
                                             .plural = "evictions",
                                             .namespace_name = record.namespace_name,
                                             .name = record.name},
                                            plan.status);
  request.may_send = options_.may_write;
  const bool ends = !plan.look_again;
  auto end = std::make_shared<WorkQueue::Done>(std::move(done));
  calls_[key] = client_.call(
      request, [this, key, request, again = plan.look_again, ends, end](const auto& reply) {
        const auto call = calls_.extract(key);
        if (!reply || !reply->ok()) return (*end)(refused_.outcome(key, request, reply));
        refused_.forget();
        if (ends) completed_.add();
        (*end)({.again_after = again});
      });
}

}  // namespace remora::k8s
