// What the webhook must know of a pod's namespace: the level of Pod Security that it enforces and
// whether its pods are to be injected. A copy of the labels of all namespaces, read again every
// namespaces_poll_ms; a namespace that is newer than the copy is asked for by itself.
//
// Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "k8s/api/list.h"
#include "k8s/inject/inject.h"
#include "sidecar/admin/metrics.h"

namespace remora::k8s {

inline constexpr int namespaces_poll_ms = 10'000;
inline constexpr int namespaces_retry_ms = 1'000;
inline constexpr size_t namespaces_max = 50'000;
// The API server gives up on an admission after 5 s.
inline constexpr int namespace_lookup_ms_max = 2'000;
inline constexpr size_t namespace_lookups_max = 16;

struct NamespaceTraits {
  PodSecurity pod_security = PodSecurity::kPrivileged;
  bool inject = false;
};

// From a core/v1 Namespace. Pure.
NamespaceTraits traits_of(const nlohmann::ordered_json& namespace_object);

class Namespaces {
 public:
  using Found = std::move_only_function<void(const NamespaceTraits&)>;

  // client must outlive it. failures counts answers of the API server that were none.
  Namespaces(Loop& loop, ApiClient& client, Counter& failures);
  // loaded is called once, when all namespaces are known for the first time.
  void start(Task loaded);

  const NamespaceTraits* find(const std::string& name) const;
  // found is called at once when the namespace is known, else when the API server has answered or
  // namespace_lookup_ms_max has passed; with defaults when it can't be known.
  void look_up(const std::string& name, Found found);
  // Those whose label asks for injection.
  std::vector<std::string> enabled() const;

 private:
  struct LookUp {
    std::vector<Found> waiting;
    std::unique_ptr<ApiCall> call;
  };
  void poll();
  void end_poll(const Result<void>& result);
  void end_look_up(const std::string& name, const Result<ApiReply>& reply);

  Loop& loop_;
  ApiClient& client_;
  Counter& failures_;
  Task loaded_;
  std::map<std::string, NamespaceTraits> known_;
  std::map<std::string, NamespaceTraits> reading_;
  std::map<std::string, LookUp> look_ups_;
  std::string trouble_;  // logged
  std::optional<PagedList> list_;
  Subscription next_;
};

}  // namespace remora::k8s
