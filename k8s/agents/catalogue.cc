#include "k8s/agents/catalogue.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "k8s/agents/report.h"
#include "k8s/api/problem.h"
#include "k8s/api/writes.h"
#include "k8s/healing/records.h"
#include "k8s/resources/crds.h"
#include "sidecar/base/log.h"

namespace remora::k8s {
namespace {

constexpr const char* agents_path = "/apis/remora.dev/v1alpha1/agentsnapshots";
constexpr std::chrono::milliseconds gather{agent_gather_ms};
constexpr std::chrono::milliseconds gone_after{agent_gone_after_ms};

ObjectPath object_path(const std::string& namespace_name, const std::string& name) {
  return {.group = std::string(resource_group),
          .version = std::string(resource_version),
          .plural = "agentsnapshots",
          .namespace_name = namespace_name,
          .name = name};
}

}  // namespace

Catalogue::Catalogue(Loop& loop, ApiClient& client, IdentityLeases& leases,
                     CatalogueOptions options, MetricRegistry& registry)
    : loop_(loop),
      client_(client),
      leases_(leases),
      options_(std::move(options)),
      failures_(registry.counter("remora_operator_agent_failures_total",
                                 "Answers of the API server about AgentSnapshots that could not be "
                                 "used.")),
      refused_("agent_not_written", "agent", failures_),
      cache_(loop, client, {.path = agents_path, .seed = options_.seed + 4}),
      queue_(loop, {.workers_max = 8, .seed = options_.seed + 4},
             [this](const std::string& key, WorkQueue::Done done) { look(key, std::move(done)); }) {
  cache_.on_change(
      [this](const ObjectPtr& before, const ObjectPtr& after) { on_object(before, after); });
}

void Catalogue::start() {
  began_at_ = loop_.now();
  cache_.start();
}

std::string Catalogue::key_of(const ConnectedAgent& agent) {
  return object_key(agent.pod.namespace_name, agent.object_name());
}

void Catalogue::on_connected(ConnectedAgent agent) {
  const std::string key = key_of(agent);
  const auto there = agents_.find(key);
  // The other one took the store over, and is heard: this one is what was left behind.
  if (there != agents_.end() && there->second.pod.uid != agent.pod.uid && there->second.epoch > 0 &&
      there->second.epoch >= agent.epoch) {
    return tell_lost(agent, there->second.epoch, "pod " + there->second.pod.pod);
  }
  gone_since_.erase(key);
  hold_identity(agent);
  agents_.insert_or_assign(key, std::move(agent));
  look_soon(key);
}

void Catalogue::on_gone(const std::string& pod_uid) {
  for (auto it = agents_.begin(); it != agents_.end();) {
    if (it->second.pod.uid != pod_uid) {
      ++it;
      continue;
    }
    gone_since_[it->first] = loop_.now();
    queue_.add_after(it->first, gone_after);
    it = agents_.erase(it);
  }
}

ConnectedAgent* Catalogue::find_agent(const link::PodClaims& pod, const std::string& container) {
  for (auto& [key, agent] : agents_) {
    if (agent.pod.uid == pod.uid && agent.container == container) return &agent;
  }
  return nullptr;
}

void Catalogue::on_snapshots(const link::PodClaims& pod, const link::v1::SnapshotReport& report) {
  ConnectedAgent* const agent = find_agent(pod, report.container());
  if (agent == nullptr) return;
  agent->snapshots = stored_snapshots(report);
  agent->snapshot_count = report.count();
  look_soon(key_of(*agent));
}

void Catalogue::on_outcome(const link::PodClaims& pod, const link::v1::Outcome& outcome) {
  ConnectedAgent* const agent = find_agent(pod, outcome.container());
  if (agent == nullptr) return;
  agent->outcome = outcome;
  look_soon(key_of(*agent));
}

void Catalogue::on_object(const ObjectPtr& before, const ObjectPtr& after) {
  const Object& object = after != nullptr ? *after : *before;
  if (after != nullptr) {
    keep(object);
  } else {
    const auto known = records_.find(object.key());
    if (known != records_.end() && known->second.uid == object.uid) {
      const bool has_lease = !known->second.spec.claim().empty();
      if (has_lease && !agents_.contains(object.key())) {
        leases_.end(object.namespace_name, object.name);
      }
      records_.erase(known);
    }
    gone_since_.erase(object.key());
    // Perhaps with its claim: the next one of that name is another.
    const auto agent = agents_.find(object.key());
    if (agent != agents_.end()) agent->second.claim_uid.reset();
  }
  look_soon(object.key());
}

void Catalogue::keep(const Object& object) {
  Result<AgentRecord> record = read_agent(object);
  if (!record) {
    failures_.add();
    return log_warn("agent_unreadable",
                    {{"agent", object.key()}, {"error", record.error().message}});
  }
  AgentRecord& place = records_[object.key()];
  const bool same_life = place.uid == record->uid;
  if (same_life && !is_newer(record->resource_version, place.resource_version)) return;
  place = std::move(*record);
}

void Catalogue::look_soon(const std::string& key) { queue_.add_after(key, gather); }

void Catalogue::look(const std::string& key, WorkQueue::Done done) {
  if (!cache_.synced()) return done({.again_after = std::chrono::seconds(1)});
  const auto agent_at = agents_.find(key);
  ConnectedAgent* const agent = agent_at == agents_.end() ? nullptr : &agent_at->second;
  const auto record_at = records_.find(key);
  if (record_at == records_.end()) {
    if (agent == nullptr) return done({});
    if (needs_claim(*agent)) return ask_for_claim(key, *agent, std::move(done));
    const ObjectPath path = object_path(agent->pod.namespace_name, agent->object_name());
    return write(key, create_request(path, new_agent_text(*agent)), std::move(done));
  }
  const AgentRecord& record = record_at->second;
  const auto gone_at = gone_since_.find(key);
  const MonotonicTime since = gone_at == gone_since_.end() ? began_at_ : gone_at->second;
  const Duration away = loop_.now() - since;
  const bool gone = agent == nullptr && away >= gone_after;
  if (agent != nullptr) {
    if (const auto command = next_command(record, *agent)) {
      agent->sent = command->id();
      link::v1::OperatorMessage message;
      *message.mutable_command() = *command;
      options_.send(agent->pod.uid, message);
    }
  }
  const auto status = next_status(record, agent, gone, loop_.clock().wall_now());
  if (!status) {
    const bool wait = agent == nullptr && !gone && record.status.connected();
    return done({.again_after = wait ? std::optional<Duration>(gone_after - away) : std::nullopt});
  }
  write(key,
        apply_status_request(object_path(record.namespace_name, record.name),
                             agent_status_text(record, *status)),
        std::move(done));
}

void Catalogue::ask_for_claim(const std::string& key, const ConnectedAgent& agent,
                              WorkQueue::Done done) {
  const ApiRequest request{.path = ObjectPath{.group = "",
                                              .version = "v1",
                                              .plural = "persistentvolumeclaims",
                                              .namespace_name = agent.pod.namespace_name,
                                              .name = agent.claim}
                                       .object()};
  auto end = std::make_shared<WorkQueue::Done>(std::move(done));
  calls_[key] = client_.call(request, [this, key, request, end](const Result<ApiReply>& reply) {
    const auto call = calls_.extract(key);
    on_claim(key, request, reply, *end);
  });
}

void Catalogue::on_claim(const std::string& key, const ApiRequest& request,
                         const Result<ApiReply>& reply, WorkQueue::Done& done) {
  const auto agent = agents_.find(key);
  if (agent == agents_.end()) return done({});
  std::string uid = reply && reply->ok() ? claim_uid_of(reply->body) : std::string();
  // Without the right to read it there is a catalogue all the same, which nobody takes away.
  const bool is_forbidden = reply && reply->status == 403;
  if (uid.empty() && !is_forbidden) {
    refused_.add("claim_not_read", key,
                 reply ? api_error(request, *reply).message : reply.error().message);
    return done({.failed = true});
  }
  if (is_forbidden) {
    failures_.add();
    log_warn("claim_not_read", {{"agent", key}, {"error", api_error(request, *reply).message}});
  }
  agent->second.claim_uid = std::move(uid);
  done({.again_after = Duration::zero()});
}

void Catalogue::write(const std::string& key, const ApiRequest& asked, WorkQueue::Done done) {
  ApiRequest request = asked;
  request.may_send = options_.may_write;
  auto end = std::make_shared<WorkQueue::Done>(std::move(done));
  calls_[key] =
      client_.call(std::move(request), [this, key, asked, end](const Result<ApiReply>& reply) {
        const auto call = calls_.extract(key);
        on_written(key, asked, reply, std::move(*end));
      });
}

void Catalogue::on_written(const std::string& key, const ApiRequest& request,
                           const Result<ApiReply>& reply, WorkQueue::Done done) {
  if (reply && reply->ok()) {
    if (const ObjectPtr object = make_object(Json::parse(reply->body, nullptr, false))) {
      keep(*object);
    }
    refused_.forget();
    return done({.again_after = gather});
  }
  done(refused_.outcome(key, request, reply));
}

}  // namespace remora::k8s
