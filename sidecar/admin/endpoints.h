// Which answer belongs to which request: the table of endpoints. No I/O.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "sidecar/admin/source.h"

namespace remora {

struct AdminRequest {
  std::string_view method;
  std::string_view path;  // with query
  std::string_view host;  // the Host field; empty: none
  // Came over TCP: only /healthz, /readyz and /metrics exist there, and Host must be a loopback
  // name, so that a web page can't reach them by pointing its own name here (DNS rebinding).
  bool over_tcp = false;
};

struct AdminResponse {
  int status = 200;
  std::string_view content_type = "application/json";  // a literal
  std::string_view allow = {};                         // a literal; for 405
  std::string body;
};

// respond is called exactly once: from inside the call, or later when the source answers later.
void answer_admin_request(AdminSource& source, const AdminRequest& request,
                          std::move_only_function<void(AdminResponse)> respond);

// An application/problem+json body (RFC 9457).
AdminResponse admin_problem(int status, std::string_view title, std::string_view detail);

// "localhost", or a loopback address, each with or without a port.
bool is_loopback_host(std::string_view host);

}  // namespace remora
