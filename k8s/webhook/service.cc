#include "k8s/webhook/service.h"

#include <utility>

#include "k8s/webhook/admission.h"
#include "sidecar/base/log.h"

namespace remora::k8s {
namespace {

constexpr std::string_view admissions_name = "remora_operator_admissions_total";
constexpr std::string_view admissions_help = "Pods that the API server asked about, by the answer.";

std::string_view without_query(std::string_view path) { return path.substr(0, path.find('?')); }

ServerResponse text_response(int status, std::string text) {
  ServerResponse response;
  response.status = status;
  response.content_type = "text/plain; charset=utf-8";
  response.body = std::move(text) + "\n";
  return response;
}

}  // namespace

std::optional<ServerResponse> health_response(const ServerRequest& request,
                                              const std::string& obstacle) {
  const std::string_view path = without_query(request.path);
  if (path == "/healthz") return text_response(200, "ok");
  if (path != "/readyz") return std::nullopt;
  return obstacle.empty() ? text_response(200, "ok") : text_response(503, obstacle);
}

ServerResponse not_found_response(std::string_view path) {
  return problem_response(404, "There is nothing here.", without_query(path));
}

WebhookService::Metrics::Metrics(MetricRegistry& registry)
    : injected(registry.counter(admissions_name, admissions_help, {{"result", "injected"}})),
      unchanged(registry.counter(admissions_name, admissions_help, {{"result", "unchanged"}})),
      skipped(registry.counter(admissions_name, admissions_help, {{"result", "skipped"}})),
      refused(registry.counter(admissions_name, admissions_help, {{"result", "refused"}})),
      invalid(registry.counter(admissions_name, admissions_help, {{"result", "invalid"}})),
      duration(registry.histogram("remora_operator_admission_duration_seconds",
                                  "From a whole review to its answer.")) {}

WebhookService::WebhookService(Loop& loop, MetricRegistry& registry, Namespaces& namespaces,
                               WebhookOptions options)
    : loop_(loop), namespaces_(namespaces), options_(std::move(options)), metrics_(registry) {}

Result<void> WebhookService::start() {
  HttpServerOptions options;
  options.connections_max = webhook_connections_max;
  options.connections_per_source_max = webhook_connections_per_source_max;
  options.request_body_bytes_max = admission_bytes_max;
  options.bodies_bytes_max = webhook_bodies_bytes_max;
  options.keep_body = true;
  options.keep_alive_ms_max = webhook_keep_alive_ms_max;
  options.tls = options_.tls;
  Result<std::unique_ptr<HttpServer>> server = HttpServer::start(
      loop_, options_.listen, options, [this](const ServerRequest& request, ServerRespond respond) {
        handle(request, std::move(respond));
      });
  if (!server) return std::unexpected(std::move(server.error()));
  server_ = std::move(*server);
  return {};
}

void WebhookService::handle(const ServerRequest& request, ServerRespond respond) {
  const std::string_view path = without_query(request.path);
  const bool by_namespace = path == mutate_by_namespace_path;
  if (by_namespace || path == mutate_by_label_path) {
    if (request.method == "POST") return mutate(request, by_namespace, std::move(respond));
    ServerResponse response = problem_response(405, "This is for POST only.", path);
    response.allow = "POST";
    return respond(std::move(response));
  }
  std::optional<ServerResponse> health = health_response(request, options_.obstacle());
  respond(health ? std::move(*health) : not_found_response(request.path));
}

void WebhookService::mutate(const ServerRequest& request, bool inject_by_default,
                            ServerRespond respond) {
  const MonotonicTime began = loop_.clock().now();
  Result<AdmissionReview> review = AdmissionReview::parse(request.body);
  if (!review) {
    metrics_.invalid.add();
    return respond(problem_response(400, "This is no review of a pod.", review.error().message));
  }
  auto finish = [this, began, inject_by_default, respond = std::move(respond)](
                    const AdmissionReview& asked, const NamespaceTraits& traits) mutable {
    respond(answer(asked, traits, inject_by_default));
    metrics_.duration.observe(loop_.clock().now() - began);
  };
  const std::string name = review->namespace_name();
  const NamespaceTraits* traits = namespaces_.find(name);
  const size_t bytes = request.body.size();
  if (traits != nullptr || waiting_bytes_ + bytes > webhook_waiting_bytes_max) {
    return finish(*review, traits != nullptr ? *traits : NamespaceTraits{});
  }
  waiting_bytes_ += bytes;
  namespaces_.look_up(name, [this, bytes, asked = std::move(*review),
                             finish = std::move(finish)](const NamespaceTraits& found) mutable {
    waiting_bytes_ -= bytes;
    finish(asked, found);
  });
}

ServerResponse WebhookService::answer(const AdmissionReview& review, const NamespaceTraits& traits,
                                      bool inject_by_default) {
  InjectOptions options = options_.inject;
  options.namespace_name = review.namespace_name();
  options.pod_security = traits.pod_security;
  options.inject_by_default = inject_by_default;
  if (options_.policy_for) {
    options.policy = options_.policy_for(review.namespace_name(), review.labels());
  }
  if (options_.avoided) {
    options.avoided = options_.avoided(review.namespace_name(), review.labels());
  }
  options.link = options_.link();
  AdmissionOutcome outcome = review.answer(options);
  counter_of(outcome.result).add();
  log_info("admission",
           {{"pod", outcome.pod}, {"result", outcome.result}, {"reason", outcome.reason}});
  ServerResponse response;
  response.body = std::move(outcome.review);
  return response;
}

Counter& WebhookService::counter_of(std::string_view result) {
  return result == "injected"    ? metrics_.injected
         : result == "unchanged" ? metrics_.unchanged
         : result == "skipped"   ? metrics_.skipped
                                 : metrics_.refused;
}

}  // namespace remora::k8s
