// Which answer belongs to which request: the table of endpoints. No I/O.
#pragma once

#include <string_view>

#include "sidecar/admin/source.h"
#include "sidecar/serve/message.h"

namespace remora {

struct AdminRequest {
  std::string_view method;
  std::string_view path;  // with query
  std::string_view host;  // the Host field; empty: none
  // Came over TCP: only /healthz, /readyz and /metrics exist there, and Host must be a loopback
  // name, so that a web page can't reach them by pointing its own name here (DNS rebinding).
  bool over_tcp = false;
};

// respond is called exactly once: from inside the call, or later when the source answers later.
void answer_admin_request(AdminSource& source, const AdminRequest& request, ServerRespond respond);

// "localhost", or a loopback address, each with or without a port.
bool is_loopback_host(std::string_view host);

}  // namespace remora
