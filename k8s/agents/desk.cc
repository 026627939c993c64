#include "k8s/agents/desk.h"

#include <algorithm>
#include <utility>

#include "k8s/agents/report.h"
#include "k8s/agents/session.h"
#include "sidecar/base/log.h"

namespace remora::k8s {
namespace {

constexpr std::string_view calls_name = "remora_operator_link_calls_total";
constexpr std::string_view calls_help = "Calls of sidecars, by what became of them.";
constexpr size_t container_bytes_max = 63;  // RFC 1123 labels, as Kubernetes has them
constexpr size_t claim_bytes_max = 253;

bool is_name(const std::string& text, size_t bytes_max) {
  constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyz0123456789-.";
  return text.size() <= bytes_max && text.find_first_not_of(allowed) == std::string::npos;
}

}  // namespace

SidecarSession::SidecarSession(Desk& desk, link::Call& call) : desk_(desk), call_(call) {}

void SidecarSession::begin() {
  if (!desk_.options_.leads()) {
    desk_.metrics_.elsewhere.add();
    return finish(link::StatusCode::kUnavailable, "this replica doesn't lead; try another one");
  }
  desk_.tokens_.review(link::bearer_token(call_.authorization()),
                       [this, alive = alive_](const Result<link::PodClaims>& claims) {
                         if (*alive) on_reviewed(claims);
                       });
}

void SidecarSession::on_reviewed(const Result<link::PodClaims>& claims) {
  if (!claims) {
    desk_.metrics_.refused.add();
    const bool later = claims.error().code != ErrorCode::kPermission;
    log_warn("sidecar_refused", {{"peer", call_.peer()}, {"reason", claims.error().message}});
    // What keeps the operator from asking is for its own log, not for whoever calls.
    if (later) {
      return finish(link::StatusCode::kUnavailable, "the token can't be checked now; try again");
    }
    return finish(link::StatusCode::kUnauthenticated, claims.error().message);
  }
  pod_ = *claims;
  desk_.metrics_.accepted.add();
  reported_at_ = desk_.loop_.now();
  std::uniform_int_distribution<int> more(0, call_life_ms / 2);
  ends_at_ = reported_at_ + std::chrono::milliseconds(call_life_ms + more(desk_.random_));
  desk_.enter(*this);
  entered_ = true;
  call_.accept();
}

void SidecarSession::welcome() {
  link::v1::OperatorMessage message;
  message.mutable_welcome()->set_trusted_pem(desk_.options_.trusted_pem());
  send(message);
}

void SidecarSession::on_message(const link::v1::SidecarMessage& message) {
  switch (message.message_case()) {
    case link::v1::SidecarMessage::kHello:
      return on_hello(message.hello());
    case link::v1::SidecarMessage::kIncident:
      return on_incident(message.incident());
    case link::v1::SidecarMessage::kSnapshots:
      return desk_.catalogue_->on_snapshots(pod_, message.snapshots());
    case link::v1::SidecarMessage::kOutcome:
      return desk_.catalogue_->on_outcome(pod_, message.outcome());
    case link::v1::SidecarMessage::kSettings:
      return on_settings(message.settings());
    case link::v1::SidecarMessage::MESSAGE_NOT_SET:
      return;  // of a later version
  }
}

void SidecarSession::on_hello(const link::v1::Hello& hello) {
  if (hello.agents_size() > agents_per_pod_max) {
    return finish(link::StatusCode::kInvalidArgument, "too many agents");
  }
  for (const link::v1::AgentInfo& agent : hello.agents()) {
    const bool good = !agent.container().empty() &&
                      is_name(agent.container(), container_bytes_max) &&
                      is_name(agent.claim(), claim_bytes_max);
    if (!good) return finish(link::StatusCode::kInvalidArgument, "an agent's name is not one");
    containers_.insert(agent.container());
  }
  log_info("sidecar_connected", {{"namespace", pod_.namespace_name},
                                 {"pod", pod_.pod},
                                 {"version", cut(hello.version(), container_bytes_max)},
                                 {"agents", hello.agents_size()}});
  welcome();
  for (const link::v1::AgentInfo& agent : hello.agents()) {
    desk_.catalogue_->on_connected({.pod = pod_,
                                    .container = agent.container(),
                                    .claim = agent.claim(),
                                    .epoch = agent.epoch()});
  }
  set_settings_due();
  tell_settings();
}

// A pod that the watch has not told of yet is waited for.
void SidecarSession::tell_settings() {
  if (!settings_due_ || !desk_.options_.policies_known()) return;
  const PodFacts* const pod = desk_.healing_.find_pod(pod_.namespace_name, pod_.pod, pod_.uid);
  if (pod == nullptr) return;
  settings_due_ = false;
  std::optional<config::PolicyValues> values =
      desk_.options_.values(pod_.namespace_name, pod->labels);
  if (!values || values == told_) return;
  link::v1::OperatorMessage message;
  link::v1::Settings& settings = *message.mutable_settings();
  settings.set_policy(values->policy);
  settings.set_generation(values->generation);
  for (const auto& [key, value] : values->annotations) {
    (*settings.mutable_annotations())[key] = value;
  }
  told_ = std::move(values);
  send(message);
}

void SidecarSession::on_settings(const link::v1::SettingsReport& report) {
  if (!may_report()) {
    return finish(link::StatusCode::kResourceExhausted, "too many reports of one pod");
  }
  if (!told_ || report.policy() != told_->policy || report.generation() != told_->generation)
    return;
  if (!report.problem().empty()) {
    log_warn("settings_not_in_force", {{"namespace", pod_.namespace_name},
                                       {"pod", pod_.pod},
                                       {"policy", told_->policy},
                                       {"reason", cut(report.problem(), report_line_bytes_max)}});
  }
  desk_.healing_.settings_told(pod_.namespace_name, pod_.uid,
                               {.policy = told_->policy,
                                .generation = told_->generation,
                                .all_in_force = report.problem().empty()});
}

bool SidecarSession::may_report() {
  const MonotonicTime now = desk_.loop_.now();
  reports_left_ = std::min(reports_burst_max,
                           reports_left_ + to_seconds(now - reported_at_) * reports_per_second_max);
  reported_at_ = now;
  if (reports_left_ < 1) return false;
  reports_left_ -= 1;
  return true;
}

void SidecarSession::on_incident(const link::v1::IncidentReport& told) {
  if (!containers_.contains(told.container())) {
    return finish(link::StatusCode::kInvalidArgument, "a report of a container that hello had not");
  }
  if (!may_report()) {
    return finish(link::StatusCode::kResourceExhausted, "too many reports of one pod");
  }
  Result<SidecarReport> report = sidecar_report(pod_, told);
  if (!report) return finish(link::StatusCode::kInvalidArgument, report.error().message);
  desk_.healing_.report(pod_.namespace_name, std::move(*report),
                        [this, alive = alive_](const SidecarReport& kept) {
                          if (!*alive) return;
                          link::v1::OperatorMessage message;
                          link::v1::Acknowledgement& word = *message.mutable_acknowledgement();
                          word.set_container(kept.container);
                          word.set_id(kept.healing.id());
                          word.set_outcome(kept.healing.outcome());
                          send(message);
                        });
}

void SidecarSession::on_end() {
  desk_.metrics_.ended.add();
  if (entered_) desk_.leave(*this);
}

Desk::Metrics::Metrics(MetricRegistry& registry)
    : accepted(registry.counter(calls_name, calls_help, {{"result", "accepted"}})),
      elsewhere(registry.counter(calls_name, calls_help, {{"result", "not_leader"}})),
      refused(registry.counter(calls_name, calls_help, {{"result", "refused"}})),
      ended(registry.counter(calls_name, calls_help, {{"result", "ended"}})) {}

Desk::Desk(Loop& loop, ApiClient& client, HealingController& healing, Options options,
           MetricRegistry& registry)
    : loop_(loop),
      healing_(healing),
      options_(std::move(options)),
      metrics_(registry),
      tokens_(loop, client),
      random_(options_.seed) {
  look_around();
}

Desk::~Desk() = default;

std::unique_ptr<link::CallEvents> Desk::receive(link::Call& call) {
  auto session = std::make_unique<SidecarSession>(*this, call);
  session->begin();
  return session;
}

void Desk::enter(SidecarSession& session) {
  SidecarSession*& place = sessions_[session.pod().uid];
  SidecarSession* const before = std::exchange(place, &session);
  if (before == nullptr) return;
  before->finish(link::StatusCode::kUnavailable, "the pod's sidecar has called again");
}

void Desk::leave(SidecarSession& session) {
  const auto found = sessions_.find(session.pod().uid);
  if (found == sessions_.end() || found->second != &session) return;
  sessions_.erase(found);
  catalogue_->on_gone(session.pod().uid);
}

void Desk::send(const std::string& pod_uid, const link::v1::OperatorMessage& message) {
  const auto found = sessions_.find(pod_uid);
  if (found != sessions_.end()) found->second->send(message);
}

void Desk::on_policies_changed(const std::string& namespace_name) {
  for (const auto& [uid, session] : sessions_) {
    if (session->pod().namespace_name == namespace_name) session->set_settings_due();
  }
}

// A call that is finished leaves later, not from inside of it.
void Desk::look_around() {
  poll_ = loop_.add_timer(std::chrono::milliseconds(desk_look_ms), [this] { look_around(); });
  watch_authorities();
  const MonotonicTime now = loop_.now();
  for (const auto& [uid, session] : sessions_) {
    session->tell_settings();
    if (session->is_over(now)) {
      session->finish(link::StatusCode::kUnavailable, "time for the token to be looked at again");
    }
  }
}

void Desk::watch_authorities() {
  std::string now = options_.trusted_pem();
  if (now == authorities_) return;
  authorities_ = std::move(now);
  for (const auto& [uid, session] : sessions_) session->welcome();
}

}  // namespace remora::k8s
