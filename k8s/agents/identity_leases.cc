#include "k8s/agents/identity_leases.h"

#include <utility>

#include "k8s/api/problem.h"
#include "k8s/api/writes.h"
#include "sidecar/base/log.h"

namespace remora::k8s {
namespace {

constexpr std::chrono::milliseconds retry{identity_retry_ms};

}  // namespace

IdentityLeases::IdentityLeases(Loop& loop, ApiClient& client, IdentityLeaseOptions options,
                               MetricRegistry& registry)
    : loop_(loop),
      client_(client),
      options_(std::move(options)),
      fenced_(registry.counter("remora_operator_identities_fenced_total",
                               "Identities of agents that were fenced before their pods were moved "
                               "away from a lost node.")),
      failures_(registry.counter("remora_operator_identity_failures_total",
                                 "Leases of agents' identities that could not be read or "
                                 "written.")) {}

ApiRequest IdentityLeases::request(std::string method, const std::string& lease) const {
  ApiRequest request;
  request.method = std::move(method);
  request.path = "/apis/coordination.k8s.io/v1/namespaces/" + options_.namespace_name + "/leases";
  if (!lease.empty()) request.path += "/" + lease;
  request.may_send = options_.may_write;
  return request;
}

void IdentityLeases::hold(const Identity& identity, uint64_t epoch,
                          std::function<void(const LeaseRecord&)> lost) {
  auto is_lost = std::make_shared<bool>(false);
  change(std::make_shared<Change>(
      Change{.lease = identity.lease(),
             .decide =
                 [this, identity, epoch, is_lost](const Known& known) {
                   const bool lives =
                       known && options_.pod_exists(identity.namespace_name, uid_of_holder(*known));
                   HoldVerdict verdict =
                       judge_hold(known, identity.holder(), epoch, lives, loop_.clock().wall_now());
                   *is_lost = verdict.is_lost;
                   return verdict.write;
                 },
             .done =
                 [is_lost, lost = std::move(lost)](const Result<Known>& lease) {
                   if (lease && *lease && *is_lost) lost(**lease);
                 }}));
}

void IdentityLeases::fence(const Identity& identity, uint64_t epoch,
                           std::function<void(const Result<int64_t>&)> done) {
  auto is_written = std::make_shared<bool>(false);
  change(std::make_shared<Change>(Change{
      .lease = identity.lease(),
      .decide =
          [this, identity, epoch, is_written](const Known& known) {
            auto wanted = fence_lease(known, identity.holder(), epoch, loop_.clock().wall_now());
            *is_written = wanted.has_value();
            return wanted;
          },
      .done =
          [this, identity, is_written, done = std::move(done)](const Result<Known>& lease) {
            if (!lease) return done(std::unexpected(lease.error()));
            if (*is_written) {
              fenced_.add();
              log_warn("identity_fenced", {{"lease", identity.lease()},
                                           {"pod", identity.pod},
                                           {"epoch", (*lease)->transitions}});
            }
            const bool own = *lease && uid_of_holder(**lease) == identity.pod_uid;
            done(own ? (*lease)->transitions : 0);
          }}));
}

void IdentityLeases::unfence(const Identity& identity) {
  change(std::make_shared<Change>(Change{.lease = identity.lease(),
                                         .decide =
                                             [this, identity](const Known& known) {
                                               return unfence_lease(known, identity.holder(),
                                                                    loop_.clock().wall_now());
                                             },
                                         .done = [](const Result<Known>&) {}}));
}

void IdentityLeases::end(const std::string& namespace_name, const std::string& agent) {
  ApiRequest request = delete_request({.group = "coordination.k8s.io",
                                       .version = "v1",
                                       .plural = "leases",
                                       .namespace_name = options_.namespace_name,
                                       .name = identity_lease_name(namespace_name, agent)},
                                      {});
  request.may_send = options_.may_write;
  call(std::move(request), [](const Result<ApiReply>&) {});
}

void IdentityLeases::change(const std::shared_ptr<Change>& change) {
  change->request = request("GET", change->lease);
  ApiRequest asked = change->request;
  asked.may_send = nullptr;
  call(std::move(asked), [this, change](const Result<ApiReply>& reply) {
    if (!reply) return again(change, reply.error());
    if (reply->status == 404) return write(change, std::nullopt);
    if (!reply->ok()) return again(change, api_error(change->request, *reply));
    Result<LeaseRecord> lease = read_lease(reply->body);
    if (!lease) return again(change, lease.error());
    write(change, std::move(*lease));
  });
}

void IdentityLeases::write(const std::shared_ptr<Change>& change, const Known& known) {
  const std::optional<LeaseRecord> wanted = change->decide(known);
  if (!wanted) return change->done(known);
  change->request = request(known ? "PUT" : "POST", known ? change->lease : std::string());
  change->request.body = write_lease(*wanted, options_.namespace_name, change->lease);
  call(change->request, [this, change, wanted](const Result<ApiReply>& reply) {
    if (!reply) return again(change, reply.error());
    if (!reply->ok()) return again(change, api_error(change->request, *reply));
    change->done(Known(wanted));
  });
}

// Also after a conflict: it is read and decided anew.
void IdentityLeases::again(const std::shared_ptr<Change>& change, const Error& why) {
  const bool lead_is_over = why.code == ErrorCode::kCancelled;
  if (!lead_is_over && ++change->tries < identity_tries_max) {
    const uint64_t id = ++calls_made_;
    pauses_[id] = loop_.add_timer(retry, [this, id, change] {
      const auto pause = pauses_.extract(id);
      this->change(change);
    });
    return;
  }
  if (!lead_is_over) {
    failures_.add();
    log_warn("identity_not_written", {{"lease", change->lease}, {"error", why.message}});
  }
  change->done(std::unexpected(why));
}

void IdentityLeases::call(ApiRequest request, std::function<void(const Result<ApiReply>&)> then) {
  const uint64_t id = ++calls_made_;
  calls_[id] = client_.call(std::move(request),
                            [this, id, then = std::move(then)](const Result<ApiReply>& reply) {
                              const auto call = calls_.extract(id);
                              then(reply);
                            });
}

}  // namespace remora::k8s
