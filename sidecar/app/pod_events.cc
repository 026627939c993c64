#include "sidecar/app/pod_events.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>

#include "k8s/api/pod_event.h"
#include "k8s/api/problem.h"
#include "k8s/api/server.h"
#include "sidecar/base/log.h"

namespace remora {
namespace {

struct Telling {
  std::string_view reason;
  bool warns;
  std::string message;
};

Telling telling_of(std::string_view agent, const Incident& incident) {
  const std::string what =
      fmt::format("container {}: {}: {}", agent, fault_kind_name(incident.fault), incident.summary);
  if (incident.status == IncidentStatus::kOpen) return {"RemoraFoundFault", true, what};
  if (incident.closed_reason == ClosedReason::kGaveUp) return {"RemoraGaveUp", true, what};
  if (incident.closed_reason != ClosedReason::kRecovered) return {};
  const std::optional<double> took = incident.mttr_s();
  return {"RemoraHealed", false,
          took ? fmt::format("{}; ready {:.1f} s after its first sign", what, *took) : what};
}

}  // namespace

Result<PodIdentity> pod_identity_from_environment() {
  PodIdentity pod;
  const std::array<std::pair<const char*, std::string*>, 4> variables = {
      {{"REMORA_POD_NAME", &pod.name},
       {"REMORA_POD_NAMESPACE", &pod.namespace_name},
       {"REMORA_POD_UID", &pod.uid},
       {"REMORA_NODE_NAME", &pod.node}}};
  for (const auto& [name, value] : variables) {
    const char* const text = std::getenv(name);
    if (text == nullptr || *text == '\0') {
      return make_error(ErrorCode::kNotFound, ErrorSource::kConfig,
                        std::string(name) + " is not set; the injection sets it");
    }
    *value = text;
  }
  return pod;
}

std::string pod_event(const PodIdentity& pod, std::string_view agent, const Incident& incident,
                      int64_t unix_s) {
  const Telling telling = telling_of(agent, incident);
  return k8s::pod_event_text({.namespace_name = pod.namespace_name,
                              .pod_name = pod.name,
                              .pod_uid = pod.uid,
                              .container = std::string(agent),
                              .reason = std::string(telling.reason),
                              .message = telling.message,
                              .warns = telling.warns,
                              .component = "remora-sidecar",
                              .host = pod.node,
                              .instance = pod.name,
                              .at_unix_s = unix_s});
}

PodEvents::PodEvents(Loop& loop, std::unique_ptr<k8s::ApiClient> client, PodIdentity pod)
    : loop_(loop), pod_(std::move(pod)), client_(std::move(client)) {}

void PodEvents::tell(std::string_view agent, const Incident& incident) {
  if (is_forbidden_ || telling_of(agent, incident).reason.empty()) return;
  if (waiting_.size() >= pod_events_waiting_max) {
    return log_debug("event_dropped", {{"incident", incident.id}});
  }
  const auto now_s =
      std::chrono::duration_cast<std::chrono::seconds>(loop_.clock().wall_now().time_since_epoch());
  waiting_.push_back(pod_event(pod_, agent, incident, now_s.count()));
  if (!call_) send_next();
}

void PodEvents::send_next() {
  call_.reset();
  if (waiting_.empty() || is_forbidden_) return;
  request_ = {.method = "POST",
              .path = "/api/v1/namespaces/" + pod_.namespace_name + "/events",
              .body = std::move(waiting_.front())};
  waiting_.pop_front();
  call_ = client_->call(request_, [this](const Result<k8s::ApiReply>& reply) { on_answer(reply); });
}

void PodEvents::on_answer(const Result<k8s::ApiReply>& reply) {
  if (!reply) {
    log_warn("event_lost", {{"reason", reply.error().message}});
  } else if (!reply->ok()) {
    const k8s::ApiProblem problem = k8s::api_problem(request_, *reply);
    is_forbidden_ =
        problem.fault == k8s::ApiFault::kForbidden || problem.fault == k8s::ApiFault::kUnauthorized;
    if (is_forbidden_) waiting_.clear();
    log_warn(is_forbidden_ ? "events_forbidden" : "event_lost",
             {{"reason", problem.error.message}});
  }
  send_next();
}

std::unique_ptr<PodEvents> open_pod_events(Loop& loop) {
  const auto off = [](const Error& error) {
    log_warn("events_off", {{"reason", error.message}});
    return nullptr;
  };
  Result<PodIdentity> pod = pod_identity_from_environment();
  if (!pod) return off(pod.error());
  Result<k8s::ApiServer> server = k8s::in_cluster_api_server();
  if (!server) return off(server.error());
  Result<std::unique_ptr<k8s::ApiClient>> client = k8s::ApiClient::create(loop, std::move(*server));
  if (!client) return off(client.error());
  return std::make_unique<PodEvents>(loop, std::move(*client), std::move(*pod));
}

}  // namespace remora
