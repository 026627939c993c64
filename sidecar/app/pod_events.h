// Tells the pod's Events (kubectl describe pod) what Remora found and did, by the pod's own service
// account. Off unless remora.dev/events says so: the account needs the right to create events
// (k8s/manifests/README.md), and what is not allowed is said once in the log and then left.
//
// Reasons are stable, so that people can filter by them:
//   RemoraFoundFault (Warning)  a fault, with its summary
//   RemoraHealed (Normal)       the agent serves again, with the time it took
//   RemoraGaveUp (Warning)      no step or no budget is left
//
// An event is no alert: it is lost when the API server can't be reached. Loop thread only.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>

#include "k8s/api/client.h"
#include "sidecar/heal/incident.h"
#include "sidecar/net/loop.h"

namespace remora {

// Those past it are dropped: a pod whose agent dies in a loop says nothing new.
inline constexpr size_t pod_events_waiting_max = 16;

// Which pod it is, as the injection tells it in the environment.
struct PodIdentity {
  std::string name;
  std::string namespace_name;
  std::string uid;
  std::string node;
};
// kNotFound names the variable that is missing.
Result<PodIdentity> pod_identity_from_environment();

// The body of POST …/events. Pure.
std::string pod_event(const PodIdentity& pod, std::string_view agent, const Incident& incident,
                      int64_t unix_s);

class PodEvents {
 public:
  PodEvents(Loop& loop, std::unique_ptr<k8s::ApiClient> client, PodIdentity pod);

  // An incident that was opened or closed; nothing for one in between, or of no interest to others.
  void tell(std::string_view agent, const Incident& incident);

 private:
  void send_next();
  void on_answer(const Result<k8s::ApiReply>& reply);

  Loop& loop_;
  const PodIdentity pod_;
  std::unique_ptr<k8s::ApiClient> client_;
  std::deque<std::string> waiting_;
  k8s::ApiRequest request_;
  bool is_forbidden_ = false;
  std::unique_ptr<k8s::ApiCall> call_;
};

// With the account that is mounted in the pod. Nothing, said in the log, where there is none.
std::unique_ptr<PodEvents> open_pod_events(Loop& loop);

}  // namespace remora
