#include "k8s/operator/reconciler.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "k8s/inject/json_view.h"
#include "sidecar/base/log.h"

namespace remora::k8s {
namespace {

// remora.dev/inject=true, and remora.dev/inject notin (false).
constexpr std::string_view asked_selector = "?labelSelector=remora.dev%2Finject%3Dtrue";
constexpr std::string_view not_declined_selector =
    "?labelSelector=remora.dev%2Finject%20notin%20%28false%29";

}  // namespace

Reconciler::Reconciler(Loop& loop, ApiClient& client, const Namespaces& namespaces, Options options,
                       std::string instance, ReconcilerMetrics metrics)
    : loop_(loop),
      client_(client),
      namespaces_(namespaces),
      make_options_(std::move(options)),
      instance_(std::move(instance)),
      metrics_(metrics) {}

void Reconciler::start() {
  next_ = loop_.add_timer({}, [this] { begin_round(); });
}

void Reconciler::begin_round() {
  options_ = make_options_();
  found_.clear();
  collections_ = {{"/api/v1/pods" + std::string(asked_selector), false}};
  for (const std::string& name : namespaces_.enabled()) {
    collections_.push_back(
        {"/api/v1/namespaces/" + name + "/pods" + std::string(not_declined_selector), true});
  }
  read_next();
}

void Reconciler::read_next() {
  if (collections_.empty()) return end_reading();
  const Collection collection = std::move(collections_.front());
  collections_.pop_front();
  list_.emplace(
      client_, collection.path,
      [this, by_default = collection.inject_by_default](const Json& pod) {
        look_at(pod, by_default);
      },
      [this](const Result<void>& result) {
        // What is not known to be all must not be taken for all: gauge and memory stay.
        if (!result) return fail(result.error());
        read_next();
      });
}

void Reconciler::look_at(const Json& pod, bool inject_by_default) {
  if (found_.size() >= uninjected_pods_max) return;
  const Json* metadata = find_object(pod, "metadata");
  options_.namespace_name = metadata == nullptr ? std::string() : text_of(*metadata, "namespace");
  options_.inject_by_default = inject_by_default;
  const NamespaceTraits* traits = namespaces_.find(options_.namespace_name);
  options_.pod_security = traits == nullptr ? PodSecurity::kPrivileged : traits->pod_security;
  std::optional<UninjectedPod> uninjected = find_uninjected(pod, options_);
  if (!uninjected) return;
  std::string uid = uninjected->uid;
  found_.insert_or_assign(std::move(uid), std::move(*uninjected));
}

void Reconciler::end_reading() {
  trouble_.clear();
  metrics_.uninjected.set(static_cast<double>(found_.size()));
  std::erase_if(told_, [&](const std::string& uid) { return !found_.contains(uid); });
  to_tell_.clear();
  for (const auto& [uid, pod] : found_) {
    if (!told_.contains(uid) && to_tell_.size() < reconcile_events_max) to_tell_.push_back(uid);
  }
  tell_next();
}

void Reconciler::tell_next() {
  if (to_tell_.empty()) return wait();
  const std::string uid = std::move(to_tell_.front());
  to_tell_.pop_front();
  const UninjectedPod& pod = found_.at(uid);
  const auto now_s =
      std::chrono::duration_cast<std::chrono::seconds>(loop_.clock().wall_now().time_since_epoch());
  request_ = {.method = "POST",
              .path = "/api/v1/namespaces/" + pod.namespace_name + "/events",
              .body = uninjected_event(pod, now_s.count(), instance_)};
  call_ =
      client_.call(request_, [this, uid](const Result<ApiReply>& reply) { on_told(uid, reply); });
}

void Reconciler::on_told(const std::string& uid, const Result<ApiReply>& reply) {
  if (!reply) return fail(reply.error());
  if (reply->ok() || reply->status == 409) {
    const UninjectedPod& pod = found_.at(uid);
    log_warn("pod_without_remora", {{"namespace", pod.namespace_name},
                                    {"pod", pod.name},
                                    {"uid", uid},
                                    {"why", pod.why},
                                    {"told_by_another", reply->status == 409}});
    told_.insert(uid);
  } else {
    metrics_.failures.add();
    // Of one pod only, such as one in a namespace that is being deleted; a right that is missing is
    // missing for all, and is said once.
    const std::string why = api_error(request_, *reply).message;
    if (why != trouble_) log_warn("event_refused", {{"uid", uid}, {"error", why}});
    trouble_ = why;
  }
  tell_next();
}

void Reconciler::fail(const Error& error) {
  metrics_.failures.add();
  if (error.message != trouble_) {
    trouble_ = error.message;
    log_warn("reconcile_failed", {{"error", trouble_}});
  }
  wait();
}

void Reconciler::wait() {
  next_ = loop_.add_timer(std::chrono::milliseconds(reconcile_ms), [this] { begin_round(); });
}

}  // namespace remora::k8s
