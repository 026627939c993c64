#include "k8s/agents/authorities.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "config/pod.h"
#include "k8s/api/problem.h"
#include "k8s/api/writes.h"
#include "sidecar/base/log.h"

namespace remora::k8s {

std::string authorities_text(const std::string& namespace_name, const std::string& pem) {
  return nlohmann::ordered_json{{"apiVersion", "v1"},
                                {"kind", "ConfigMap"},
                                {"metadata",
                                 {{"name", config::link_authorities_config_map},
                                  {"namespace", namespace_name},
                                  {"labels", {{"app.kubernetes.io/managed-by", "remora"}}}}},
                                {"data", {{std::string(config::link_authorities_key), pem}}}}
      .dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

Authorities::Authorities(Loop& loop, ApiClient& client, Options options, Counter& failures)
    : loop_(loop),
      client_(client),
      options_(std::move(options)),
      refused_("authorities_not_written", "namespace", failures),
      queue_(
          loop, {.workers_max = 4, .seed = options_.seed},
          [this](const std::string& key, WorkQueue::Done done) { write(key, std::move(done)); }) {}

void Authorities::start() { look_at_all(); }

void Authorities::look_at_all() {
  next_ =
      loop_.add_timer(std::chrono::milliseconds(authorities_look_ms), [this] { look_at_all(); });
  std::string pem = options_.trusted_pem();
  if (pem.empty()) return;
  std::set<std::string> namespaces = options_.namespaces();
  const bool is_other = pem != pem_;
  pem_ = std::move(pem);
  for (const std::string& name : namespaces) {
    if (is_other || !namespaces_.contains(name)) queue_.add(name);
  }
  namespaces_ = std::move(namespaces);
}

void Authorities::write(const std::string& namespace_name, WorkQueue::Done done) {
  if (!namespaces_.contains(namespace_name)) return done({});
  ApiRequest request = apply_request({.group = "",
                                      .version = "v1",
                                      .plural = "configmaps",
                                      .namespace_name = namespace_name,
                                      .name = std::string(config::link_authorities_config_map)},
                                     authorities_text(namespace_name, pem_));
  request.may_send = options_.may_write;
  auto end = std::make_shared<WorkQueue::Done>(std::move(done));
  calls_[namespace_name] =
      client_.call(request, [this, namespace_name, request, end](const Result<ApiReply>& reply) {
        const auto call = calls_.extract(namespace_name);
        on_written(namespace_name, request, reply, std::move(*end));
      });
}

void Authorities::on_written(const std::string& namespace_name, const ApiRequest& request,
                             const Result<ApiReply>& reply, WorkQueue::Done done) {
  if (reply && reply->ok()) {
    refused_.forget();
    return done({.again_after = std::chrono::milliseconds(authorities_again_ms)});
  }
  done(refused_.outcome(namespace_name, request, reply));
}

}  // namespace remora::k8s
