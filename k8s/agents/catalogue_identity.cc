// The half of Catalogue that healing asks: whose identity an agent's is, and requests of the
// operator's own.
#include <nlohmann/json.hpp>
#include <utility>

#include "k8s/agents/catalogue.h"
#include "k8s/api/problem.h"
#include "k8s/api/writes.h"
#include "k8s/resources/crds.h"
#include "sidecar/base/log.h"

namespace remora::k8s {

namespace {

std::string outcome_in_words(const v1alpha1::AgentRequestStatus& request) {
  return request.snapshot().empty() ? request.message()
                                    : request.message() + " (snapshot " + request.snapshot() + ")";
}

}  // namespace

void Catalogue::hold_identity(const ConnectedAgent& agent) {
  if (agent.claim.empty() || agent.epoch == 0) return;
  const Identity identity{.namespace_name = agent.pod.namespace_name,
                          .agent = agent.object_name(),
                          .pod = agent.pod.pod,
                          .pod_uid = agent.pod.uid};
  leases_.hold(identity, agent.epoch, [this, agent](const LeaseRecord& lease) {
    tell_lost(agent, static_cast<uint64_t>(lease.transitions), lease.holder);
  });
}

void Catalogue::tell_lost(const ConnectedAgent& agent, uint64_t epoch, const std::string& holder) {
  log_warn("identity_lost", {{"namespace", agent.pod.namespace_name},
                             {"pod", agent.pod.pod},
                             {"agent", agent.container},
                             {"epoch", agent.epoch},
                             {"newest", epoch},
                             {"holder", holder}});
  link::v1::OperatorMessage message;
  link::v1::Lease& lease = *message.mutable_lease();
  lease.set_container(agent.container);
  lease.set_epoch(epoch);
  lease.set_holder(holder);
  options_.send(agent.pod.uid, message);
}

std::vector<Identity> Catalogue::identities_of(const std::string& namespace_name,
                                               const std::string& pod_uid) const {
  std::vector<Identity> all;
  for (const auto& [key, record] : records_) {
    const v1alpha1::PodReference& pod = record.status.pod();
    if (record.namespace_name != namespace_name || pod.uid() != pod_uid) continue;
    if (record.spec.claim().empty()) continue;
    all.push_back({.namespace_name = namespace_name,
                   .agent = record.name,
                   .pod = pod.name(),
                   .pod_uid = pod_uid});
  }
  return all;
}

void Catalogue::fence(const std::string& namespace_name, const std::string& pod_uid,
                      std::function<void(const Result<std::string>&)> done) {
  if (!cache_.synced()) {
    return done(make_error(ErrorCode::kUnavailable, ErrorSource::kUpstream,
                           "the AgentSnapshots are not known yet", true));
  }
  const std::vector<Identity> identities = identities_of(namespace_name, pod_uid);
  if (identities.empty()) return done(std::string());
  struct Fencing {
    size_t left = 0;
    std::string words{};
    std::optional<Error> failed{};
    std::function<void(const Result<std::string>&)> done;
  };
  auto fencing =
      std::make_shared<Fencing>(Fencing{.left = identities.size(), .done = std::move(done)});
  for (const Identity& identity : identities) {
    const auto record = records_.find(object_key(namespace_name, identity.agent));
    const auto epoch = static_cast<uint64_t>(std::max<int64_t>(0, record->second.status.epoch()));
    leases_.fence(identity, epoch, [identity, fencing](const Result<int64_t>& fenced) {
      if (!fenced) {
        fencing->failed = fenced.error();
      } else if (*fenced > 0) {
        fencing->words += (fencing->words.empty() ? "Lease " : ", Lease ") + identity.lease() +
                          " at epoch " + std::to_string(*fenced);
      }
      if (--fencing->left > 0) return;
      if (fencing->failed) return fencing->done(std::unexpected(*fencing->failed));
      fencing->done(fencing->words);
    });
  }
}

void Catalogue::end_fence(const std::string& namespace_name, const std::string& pod_uid,
                          bool moved) {
  for (const Identity& identity : identities_of(namespace_name, pod_uid)) {
    if (!moved) {
      leases_.unfence(identity);
      continue;
    }
    // Where only its kubelet is silent it is heard still, and so can be told.
    const auto agent = agents_.find(object_key(namespace_name, identity.agent));
    if (agent == agents_.end() || agent->second.pod.uid != pod_uid) continue;
    tell_lost(agent->second, agent->second.epoch + 1, "nobody: the pod is being moved");
  }
}

std::vector<AgentFacts> Catalogue::agents_of(const std::string& namespace_name) const {
  std::vector<AgentFacts> all;
  for (const auto& [key, agent] : agents_) {
    if (agent.pod.namespace_name != namespace_name) continue;
    const auto record = records_.find(key);
    if (record == records_.end()) continue;
    const v1alpha1::AgentRequest& wanted = record->second.spec.request();
    const v1alpha1::AgentRequestStatus& known = record->second.status.request();
    const bool is_over =
        wanted.id().empty() || (known.id() == wanted.id() && known.state() != "Sent");
    all.push_back({.name = record->second.name,
                   .pod_uid = agent.pod.uid,
                   .container = agent.container,
                   .takes_snapshots = agent.epoch != 0,
                   .last_request = wanted.id(),
                   .is_busy = !is_over,
                   .last_failed = known.state() == "Failed",
                   .last_message = outcome_in_words(known)});
  }
  return all;
}

void Catalogue::ask(const std::string& namespace_name, const std::string& agent,
                    const v1alpha1::AgentRequest& request,
                    std::function<void(const Result<void>&)> done) {
  const std::string key = object_key(namespace_name, agent);
  const auto record = records_.find(key);
  if (record == records_.end()) {
    return done(make_error(ErrorCode::kNotFound, ErrorSource::kUpstream, "no such AgentSnapshot"));
  }
  ApiRequest asked = merge_patch_request({.group = std::string(resource_group),
                                          .version = std::string(resource_version),
                                          .plural = "agentsnapshots",
                                          .namespace_name = namespace_name,
                                          .name = agent},
                                         agent_request_text(record->second, request));
  asked.may_send = options_.may_write;
  const uint64_t id = ++requests_made_;
  requests_[id] = client_.call(
      asked, [this, id, key, asked, done = std::move(done)](const Result<ApiReply>& reply) {
        const auto call = requests_.extract(id);
        if (!reply) return done(std::unexpected(reply.error()));
        if (!reply->ok()) return done(std::unexpected(api_error(asked, *reply)));
        if (const ObjectPtr object = make_object(Json::parse(reply->body, nullptr, false))) {
          keep(*object);
          look_soon(key);
        }
        done({});
      });
}

}  // namespace remora::k8s
