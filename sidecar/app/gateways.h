// Base-URL gateways (config/gateway.h): for each a loopback port at which the agent's client
// library finds its server, and behind it that server, by its real name and over TLS.
//
//   agent -> 127.0.0.1:PORT -> ProxyServer (Host of the server) -> NAME:443, certificate checked
//
// Nothing is held or sent again: the server is not ours to heal. Not drained either: an agent that
// is being ended may still call, until it is gone. Loop thread only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "config/remora.pb.h"
#include "sidecar/admin/remora_metrics.h"
#include "sidecar/base/error.h"
#include "sidecar/net/event_loop.h"

namespace remora {

class Gateways {
 public:
  // socket_priority: see OutboundOptions. Errors: a busy port, certificates that can't be read.
  static Result<std::unique_ptr<Gateways>> open(EventLoop& loop, MetricRegistry& registry,
                                                const config::Outbound& outbound,
                                                int socket_priority);
  virtual ~Gateways() = default;

  virtual void collect_metrics() = 0;
};

}  // namespace remora
