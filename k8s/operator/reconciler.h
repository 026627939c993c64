// Finds what the webhook has missed: every reconcile_ms it reads the pods that should have Remora
// and tells of each that hasn't, once, as an Event of that pod, in the log, and in a gauge. It
// changes no pod: what runs is its owner's.
//
// Loop thread only.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "k8s/api/client.h"
#include "k8s/api/list.h"
#include "k8s/operator/uninjected.h"
#include "k8s/webhook/namespaces.h"
#include "sidecar/admin/metrics.h"

namespace remora::k8s {

inline constexpr int reconcile_ms = 60'000;
// More are counted, but told of in later rounds.
inline constexpr size_t reconcile_events_max = 100;
inline constexpr size_t uninjected_pods_max = 20'000;

struct ReconcilerMetrics {
  Gauge& uninjected;
  Counter& failures;
};

class Reconciler {
 public:
  // What inject_pod needs beside pod and namespace, as it is now.
  using Options = std::function<InjectOptions()>;
  // instance: who tells, in the Events. client and namespaces must outlive it.
  Reconciler(Loop& loop, ApiClient& client, const Namespaces& namespaces, Options options,
             std::string instance, ReconcilerMetrics metrics);
  // Once the namespaces are known.
  void start();

 private:
  struct Collection {
    std::string path;
    bool inject_by_default = false;
  };
  void begin_round();
  void read_next();
  void look_at(const nlohmann::ordered_json& pod, bool inject_by_default);
  void end_reading();
  void tell_next();
  void on_told(const std::string& uid, const Result<ApiReply>& reply);
  void fail(const Error& error);
  void wait();

  Loop& loop_;
  ApiClient& client_;
  const Namespaces& namespaces_;
  Options make_options_;
  const std::string instance_;
  const ReconcilerMetrics metrics_;

  InjectOptions options_;  // of this round
  std::deque<Collection> collections_;
  std::map<std::string, UninjectedPod> found_;  // by UID
  std::set<std::string> told_;                  // UIDs
  std::deque<std::string> to_tell_;             // UIDs
  std::string trouble_;                         // logged
  ApiRequest request_;
  std::optional<PagedList> list_;
  std::unique_ptr<ApiCall> call_;
  Subscription next_;
};

}  // namespace remora::k8s
