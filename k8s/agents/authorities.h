// Keeps in each namespace with sidecars a ConfigMap (remora-link-ca) with the authorities that sign
// the operator's certificates. The kubelet carries it into running pods, so that a sidecar that was
// away while the authority was replaced believes the operator again; what it was told over the link
// would not reach it.
//
// One name only, which is all that the operator may write (k8s/manifests/healing/link.yaml), and
// server-side apply, which needs no reading. What somebody else changes in it is put right within
// authorities_again_ms. Only the leader runs one. Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "k8s/api/client.h"
#include "k8s/watch/refused_writes.h"
#include "k8s/watch/work_queue.h"
#include "sidecar/admin/metrics.h"

namespace remora::k8s {

// How often it is looked whether authorities or namespaces have changed.
inline constexpr int authorities_look_ms = 1'000;
inline constexpr int authorities_again_ms = 600'000;

// A core/v1 ConfigMap, for an apply. Pure.
std::string authorities_text(const std::string& namespace_name, const std::string& pem);

class Authorities {
 public:
  struct Options {
    std::function<bool()> may_write;  // looked at right before each write is sent
    std::function<std::string()> trusted_pem;
    std::function<std::set<std::string>()> namespaces;  // those that have sidecars
    uint32_t seed = 1;
  };
  // client must outlive it.
  Authorities(Loop& loop, ApiClient& client, Options options, Counter& failures);
  Authorities(const Authorities&) = delete;
  Authorities& operator=(const Authorities&) = delete;
  ~Authorities() = default;
  void start();

 private:
  void look_at_all();
  void write(const std::string& namespace_name, WorkQueue::Done done);
  void on_written(const std::string& namespace_name, const ApiRequest& request,
                  const Result<ApiReply>& reply, WorkQueue::Done done);

  Loop& loop_;
  ApiClient& client_;
  const Options options_;
  std::string pem_;
  std::set<std::string> namespaces_;
  std::map<std::string, std::unique_ptr<ApiCall>> calls_;
  RefusedWrites refused_;
  WorkQueue queue_;
  Subscription next_;
};

}  // namespace remora::k8s
