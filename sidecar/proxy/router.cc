#include "sidecar/proxy/router.h"

namespace remora {
namespace {

// "/search" covers /search, /search/x and /search?q, not /searching.
bool path_has_prefix(std::string_view path, std::string_view prefix) {
  if (!path.starts_with(prefix)) return false;
  if (path.size() == prefix.size() || prefix.ends_with('/')) return true;
  const char next = path[prefix.size()];
  return next == '/' || next == '?';
}

}  // namespace

Route Router::route(const http::RequestHead& request) const {
  Route route;
  const auto content_type = request.headers.find("content-type");
  route.is_grpc = content_type && content_type->starts_with("application/grpc");
  route.repeatable = is_repeatable(request);
  const bool wants_h2 = options_.app_protocol == AppProtocol::kHttp2 ||
                        (options_.app_protocol == AppProtocol::kAuto && route.is_grpc &&
                         request.version == http::Version::kHttp2);
  // Upgrades exist in HTTP/1.1 only.
  if (wants_h2 && request.upgrade.empty()) route.upstream = http::Version::kHttp2;
  return route;
}

bool Router::is_repeatable(const http::RequestHead& request) const {
  if (!request.upgrade.empty()) return false;
  if (http::is_safe_method(request.method)) return true;
  if (request.headers.contains("idempotency-key")) return true;
  for (const IdempotentRoute& route : options_.idempotent) {
    if (request.method == route.method && path_has_prefix(request.path, route.path_prefix)) {
      return true;
    }
  }
  return false;
}

}  // namespace remora
