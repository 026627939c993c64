// Where a request goes and what may be done with it. Pure.
#pragma once

#include <string>
#include <vector>

#include "sidecar/http/message.h"

namespace remora {

enum class AppProtocol { kAuto, kHttp1, kHttp2 };

struct IdempotentRoute {
  std::string method;
  std::string path_prefix;
};

struct RouterOptions {
  AppProtocol app_protocol = AppProtocol::kAuto;
  std::vector<IdempotentRoute> idempotent;
};

struct Route {
  http::Version upstream = http::Version::kHttp11;
  // Sending it twice has the effect of sending it once: a safe method (RFC 9110 section 9.2.1), an
  // Idempotency-Key, or declared in the configuration. PUT and DELETE are idempotent by the RFC,
  // but agents' handlers often are not: they count only when declared or keyed.
  bool repeatable = false;
  bool is_grpc = false;
};

class Router {
 public:
  explicit Router(RouterOptions options) : options_(std::move(options)) {}
  Route route(const http::RequestHead& request) const;

 private:
  bool is_repeatable(const http::RequestHead& request) const;
  RouterOptions options_;
};

}  // namespace remora
