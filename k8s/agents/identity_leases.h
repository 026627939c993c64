// Keeps the Leases of identity_lease.h. Each is read right before it is changed, and written only
// as it was read: two changes at once follow one another.
//
// Only the leader runs one, and every write carries its right to write. Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "k8s/agents/identity_lease.h"
#include "k8s/api/client.h"
#include "sidecar/admin/metrics.h"

namespace remora::k8s {

inline constexpr int identity_tries_max = 5;
inline constexpr int identity_retry_ms = 300;

struct Identity {
  std::string namespace_name;
  std::string agent;  // name of its AgentSnapshot
  std::string pod;
  std::string pod_uid;

  std::string lease() const { return identity_lease_name(namespace_name, agent); }
  std::string holder() const { return identity_holder(pod, pod_uid); }
};

struct IdentityLeaseOptions {
  std::string namespace_name;       // of the Leases
  std::function<bool()> may_write;  // looked at right before each write is sent
  // Whether a pod of this UID exists, deleted ones that are not gone yet included.
  std::function<bool(const std::string& namespace_name, const std::string& uid)> pod_exists;
};

class IdentityLeases {
 public:
  // client must outlive it.
  IdentityLeases(Loop& loop, ApiClient& client, IdentityLeaseOptions options,
                 MetricRegistry& registry);
  IdentityLeases(const IdentityLeases&) = delete;
  IdentityLeases& operator=(const IdentityLeases&) = delete;
  ~IdentityLeases() = default;

  // A sidecar says that it publishes under epoch. lost: another has the identity, as the Lease
  // says.
  void hold(const Identity& identity, uint64_t epoch, std::function<void(const LeaseRecord&)> lost);
  // done: the epoch that whoever comes next has at least; 0: another one holds the identity
  // already.
  void fence(const Identity& identity, uint64_t epoch,
             std::function<void(const Result<int64_t>&)> done);
  void unfence(const Identity& identity);
  // There is no such agent any more.
  void end(const std::string& namespace_name, const std::string& agent);

 private:
  using Known = std::optional<LeaseRecord>;
  // What the Lease is to be, from what it is; nothing: as it is.
  using Decide = std::function<std::optional<LeaseRecord>(const Known&)>;
  // The Lease as it is by now, or why it isn't known.
  using Done = std::function<void(const Result<Known>&)>;
  struct Change {
    std::string lease;
    Decide decide;
    Done done;
    int tries = 0;
    ApiRequest request{};
  };
  void change(const std::shared_ptr<Change>& change);
  void write(const std::shared_ptr<Change>& change, const Known& known);
  void again(const std::shared_ptr<Change>& change, const Error& why);
  void call(ApiRequest request, std::function<void(const Result<ApiReply>&)> then);
  ApiRequest request(std::string method, const std::string& lease) const;

  Loop& loop_;
  ApiClient& client_;
  const IdentityLeaseOptions options_;
  Counter& fenced_;
  Counter& failures_;
  uint64_t calls_made_ = 0;
  std::map<uint64_t, std::unique_ptr<ApiCall>> calls_;
  std::map<uint64_t, Subscription> pauses_;
};

}  // namespace remora::k8s
