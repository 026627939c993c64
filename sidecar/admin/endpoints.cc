#include "sidecar/admin/endpoints.h"

#include <algorithm>
#include <array>
#include <utility>

#include "sidecar/admin/metrics.h"
#include "sidecar/admin/status.h"
#include "sidecar/base/json_text.h"
#include "sidecar/http/message.h"
#include "sidecar/net/socket_address.h"

namespace remora {
namespace {

using Respond = ServerRespond;

struct Endpoint {
  std::string_view path;
  bool is_post;
  bool on_tcp;
  void (*answer)(AdminSource&, std::string_view query, Respond);
};

std::string json_string(std::string_view text) {
  std::string out = "\"";
  append_json_escaped(out, text);
  return out += '"';
}

int status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kNotFound:
      return 404;
    case ErrorCode::kAlreadyExists:
      return 409;
    case ErrorCode::kUnavailable:
    case ErrorCode::kTimeout:
    case ErrorCode::kCancelled:
      return 503;
    case ErrorCode::kNoSpace:
      return 507;
    default:
      return 500;
  }
}

AdminDone when_done(Respond respond) {
  return [respond = std::move(respond)](Result<std::string> result) mutable {
    if (result) {
      respond({.body = *std::move(result)});
    } else {
      respond(problem_response(status_of(result.error().code), "The operation failed.",
                               result.error().message));
    }
  };
}

void answer_healthz(AdminSource& /*source*/, std::string_view /*query*/, Respond respond) {
  respond({.content_type = "text/plain; charset=utf-8", .body = "ok\n"});
}

void answer_readiness(const AdminReadiness& readiness, Respond respond) {
  std::string body =
      readiness.ready ? "{\"ready\":true,\"reasons\":[" : "{\"ready\":false,\"reasons\":[";
  for (size_t i = 0; i < readiness.reasons.size(); ++i) {
    body.append(i == 0 ? "" : ",").append(json_string(readiness.reasons[i]));
  }
  body += "]}\n";
  respond({.status = readiness.ready ? 200 : 503, .body = std::move(body)});
}

void answer_readyz(AdminSource& source, std::string_view /*query*/, Respond respond) {
  answer_readiness(source.readiness(), std::move(respond));
}

void answer_started(AdminSource& source, std::string_view /*query*/, Respond respond) {
  answer_readiness(source.started(), std::move(respond));
}

void answer_metrics(AdminSource& source, std::string_view /*query*/, Respond respond) {
  respond({.content_type = MetricRegistry::content_type, .body = source.metrics()});
}

void answer_config(AdminSource& source, std::string_view query, Respond respond) {
  const bool as_json = query == "format=json";
  respond({.content_type = as_json ? "application/json" : "application/yaml",
           .body = source.config(as_json)});
}

void answer_status(AdminSource& source, std::string_view /*query*/, Respond respond) {
  respond({.body = status_to_json(source.status())});
}

void answer_drain(AdminSource& source, std::string_view query, Respond respond) {
  source.drain(query == drain_pod_ends_query);
  respond({.status = 202, .body = "{\"draining\":true}\n"});
}

void answer_snapshot(AdminSource& source, std::string_view query, Respond respond) {
  constexpr std::string_view name = "agent=";
  if (!source.snapshot) {
    return respond(
        problem_response(404, "There are no snapshots.", "set snapshots.store and agent.stateDir"));
  }
  source.snapshot(query.starts_with(name) ? query.substr(name.size()) : std::string_view(),
                  when_done(std::move(respond)));
}

void answer_incidents(AdminSource& source, std::string_view /*query*/, Respond respond) {
  if (!source.incidents) {
    return respond(problem_response(404, "Incidents are not kept.", "set snapshots.store"));
  }
  source.incidents(when_done(std::move(respond)));
}

constexpr std::array<Endpoint, 9> endpoints = {{
    {"/healthz", false, true, answer_healthz},
    {"/readyz", false, true, answer_readyz},
    {"/metrics", false, true, answer_metrics},
    {"/started", false, false, answer_started},
    {"/status", false, false, answer_status},
    {"/config", false, false, answer_config},
    {"/incidents", false, false, answer_incidents},
    {"/drain", true, false, answer_drain},
    {"/snapshot", true, false, answer_snapshot},
}};

ServerResponse not_found(std::string_view path, bool over_tcp) {
  std::string known;
  for (const Endpoint& endpoint : endpoints) {
    if (over_tcp && !endpoint.on_tcp) continue;
    known.append(known.empty() ? "" : ", ").append(endpoint.is_post ? "POST " : "GET ");
    known.append(endpoint.path);
  }
  std::string detail = "there is ";
  detail.append(known).append("; not ").append(path.substr(0, 200));
  if (over_tcp) detail += "; the Unix socket has more";
  return problem_response(404, "There is no such endpoint.", detail);
}

}  // namespace

bool is_loopback_host(std::string_view host) {
  // A colon outside brackets begins the port; without one, port 0 stands in for it.
  const bool has_port = host.ends_with(']') ? false : host.rfind(':') != std::string_view::npos;
  const std::string text = has_port ? std::string(host) : std::string(host) + ":0";
  if (host.empty() || text.starts_with(':')) return false;
  if (http::iequals(host.substr(0, host.rfind(':')), "localhost")) return true;
  const Result<SocketAddress> address = parse_socket_address(text);
  return address && address->is_loopback();
}

void answer_admin_request(AdminSource& source, const AdminRequest& request, Respond respond) {
  if (request.over_tcp && !request.host.empty() && !is_loopback_host(request.host)) {
    return respond(problem_response(421, "This is not the host that was asked for.",
                                    "use 127.0.0.1, [::1] or localhost as the host"));
  }
  const size_t question = request.path.find('?');
  const std::string_view path = request.path.substr(0, question);
  const std::string_view query =
      question == std::string_view::npos ? std::string_view{} : request.path.substr(question + 1);
  const auto endpoint = std::ranges::find(endpoints, path, &Endpoint::path);
  if (endpoint == endpoints.end() || (request.over_tcp && !endpoint->on_tcp)) {
    return respond(not_found(path, request.over_tcp));
  }
  const bool method_fits = endpoint->is_post ? request.method == "POST"
                                             : request.method == "GET" || request.method == "HEAD";
  if (!method_fits) {
    ServerResponse response = problem_response(405, "This endpoint has another method.",
                                               endpoint->is_post ? "use POST" : "use GET");
    response.allow = endpoint->is_post ? "POST" : "GET, HEAD";
    return respond(std::move(response));
  }
  endpoint->answer(source, query, std::move(respond));
}

}  // namespace remora
