// Where sidecars are received: each call is asked for its token, and what its messages say is taken
// for the pod that the token names. One call for each pod; a newer one replaces an older.
//
// Only the leader receives: the others answer UNAVAILABLE, and the sidecar tries another replica.
// So one process alone writes Incidents and AgentSnapshots. Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include "config/annotations.h"
#include "k8s/agents/catalogue.h"
#include "k8s/api/client.h"
#include "k8s/healing/controller.h"
#include "k8s/link/server.h"
#include "k8s/link/token_review.h"
#include "sidecar/admin/metrics.h"

namespace remora::k8s {

inline constexpr int agents_per_pod_max = 64;
// Reports of one pod: past the burst, and this rate, its call is ended.
inline constexpr double reports_burst_max = 200;
inline constexpr double reports_per_second_max = 1;
// A call is ended after this, so that its token is looked at again, and up to half as much later,
// so that not all come back together.
inline constexpr int call_life_ms = 40 * 60 * 1'000;
// How often it is looked whether the authorities have changed, calls have lived for long enough,
// and pods are known that were not before.
inline constexpr int desk_look_ms = 1'000;

class SidecarSession;

class Desk {
 public:
  struct Options {
    std::function<bool()> leads;
    std::function<std::string()> trusted_pem;  // whom sidecars are to trust
    // What the policy of a pod with these labels sets in it; nothing: what it has is to stay. Asked
    // only while policies_known.
    std::function<std::optional<config::PolicyValues>(
        const std::string& namespace_name, const std::map<std::string, std::string>& labels)>
        values;
    std::function<bool()> policies_known;
    uint32_t seed = 1;
  };
  // All must outlive it.
  Desk(Loop& loop, ApiClient& client, HealingController& healing, Options options,
       MetricRegistry& registry);
  ~Desk();
  Desk(const Desk&) = delete;
  Desk& operator=(const Desk&) = delete;
  void set_catalogue(Catalogue& catalogue) { catalogue_ = &catalogue; }

  std::unique_ptr<link::CallEvents> receive(link::Call& call);
  // To the sidecar of that pod; nothing happens when it is not connected.
  void send(const std::string& pod_uid, const link::v1::OperatorMessage& message);
  // What the policies of that namespace say is another now.
  void on_policies_changed(const std::string& namespace_name);
  size_t connected() const { return sessions_.size(); }

 private:
  friend class SidecarSession;
  struct Metrics {
    explicit Metrics(MetricRegistry& registry);
    Counter& accepted;
    Counter& elsewhere;
    Counter& refused;
    Counter& ended;
  };
  void enter(SidecarSession& session);
  void leave(SidecarSession& session);
  void look_around();
  void watch_authorities();

  Loop& loop_;
  HealingController& healing_;
  const Options options_;
  Metrics metrics_;
  link::TokenReviewer tokens_;
  Catalogue* catalogue_ = nullptr;
  std::map<std::string, SidecarSession*> sessions_;  // by the pod's UID
  std::string authorities_;
  std::minstd_rand random_;
  Subscription poll_;
};

}  // namespace remora::k8s
