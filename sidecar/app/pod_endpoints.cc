#include "sidecar/app/pod_endpoints.h"

#include <utility>

#include "sidecar/base/json_text.h"

namespace remora {
namespace {

ServerResponse plain(int status, std::string_view text) {
  return {.status = status,
          .content_type = "text/plain; charset=utf-8",
          .body = std::string(text) + "\n"};
}

ServerResponse yes_or_why(bool yes, const std::vector<std::string>& reasons) {
  if (yes) return plain(200, "ok");
  std::string text;
  for (const std::string& reason : reasons) text.append(text.empty() ? "" : "; ").append(reason);
  return plain(503, text);
}

}  // namespace

Result<std::unique_ptr<PodEndpoints>> PodEndpoints::open(App& app, const SocketAddress& listen) {
  std::unique_ptr<PodEndpoints> endpoints(new PodEndpoints(app));
  Result<std::unique_ptr<HttpServer>> server = HttpServer::start(
      app.loop(), listen,
      {.connections_max = pod_connections_max,
       .connections_per_source_max = pod_connections_per_source_max},
      [self = endpoints.get()](const ServerRequest& request, ServerRespond respond) {
        self->answer(request, std::move(respond));
      });
  if (!server) return std::unexpected(std::move(server.error()));
  endpoints->server_ = std::move(*server);
  return endpoints;
}

void PodEndpoints::answer(const ServerRequest& request, ServerRespond respond) {
  constexpr std::string_view probe = "/probe/";
  const std::string_view path = std::string_view(request.path).substr(0, request.path.find('?'));
  if (request.method != "GET" && request.method != "HEAD") {
    ServerResponse response = plain(405, "only GET and HEAD");
    response.allow = "GET, HEAD";
    return respond(std::move(response));
  }
  if (path == "/healthz") return respond(plain(200, "ok"));
  if (path.starts_with(probe)) return answer_probe(path.substr(probe.size()), std::move(respond));
  if (path == "/drained") return answer_drained(std::move(respond));
  if (path == "/readyz") {
    if (app_.turns_callers_away()) app_.note_told_not_ready();
    const AdminReadiness readiness = app_.readiness();
    return respond(yes_or_why(readiness.ready, readiness.reasons));
  }
  if (path == "/started") {
    const AdminReadiness started = app_.started();
    return respond(yes_or_why(started.ready, started.reasons));
  }
  if (path == "/metrics") {
    return respond({.content_type = MetricRegistry::content_type, .body = app_.render_metrics()});
  }
  respond(plain(404,
                "there is /healthz, /started, /readyz, /probe/AGENT/{startup,liveness,readiness}, "
                "/drained, /metrics"));
}

void PodEndpoints::answer_probe(std::string_view rest, ServerRespond respond) {
  const size_t slash = rest.find('/');
  const std::string_view agent = rest.substr(0, slash);
  const std::string_view kind = slash == std::string_view::npos ? "" : rest.substr(slash + 1);
  for (const auto& unit : app_.units()) {
    if (unit->name() != agent) continue;
    const AdminReadiness readiness = unit->readiness();
    if (kind == "startup") {
      return respond(yes_or_why(unit->prober().running() && unit->prober().started(),
                                {"has not started yet"}));
    }
    if (kind == "readiness") {
      if (app_.turns_callers_away()) app_.note_told_not_ready();
      return respond(app_.turns_callers_away() ? plain(503, "draining")
                                               : yes_or_why(readiness.ready, readiness.reasons));
    }
    if (kind == "liveness") {
      return respond(yes_or_why(!unit->supervisor().gave_up(), {"Remora gave it up"}));
    }
  }
  respond(plain(404, "no such agent, or no such probe"));
}

void PodEndpoints::answer_drained(ServerRespond respond) {
  app_.when_leaving(std::chrono::milliseconds(drain_begin_wait_ms_max),
                    [this, respond = std::move(respond)](bool leaving) mutable {
                      if (!leaving) {
                        return respond(plain(409, "the pod is not being ended"));
                      }
                      app_.when_drained([respond = std::move(respond)]() mutable {
                        respond(plain(200, "drained"));
                      });
                    });
}

}  // namespace remora
