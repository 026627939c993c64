// What the kubelet asks the sidecar of a pod, over plain HTTP on the pod's address: the agents'
// probes, its own, and the hook that holds an agent's SIGTERM back until its requests are done.
// Nothing here changes anything: whoever can reach the pod can only ask.
//
//   /healthz                    this process answers
//   /started                    state checked and restored: the agents may begin
//   /readyz                     every agent takes requests
//   /probe/AGENT/startup        the agent's own startup probe has succeeded
//   /probe/AGENT/readiness      it takes requests
//   /probe/AGENT/liveness       it is well, or being healed; 503 once Remora has given it up
//   /drained                    (preStop) answers when no request is left, the pod being ended
//   /metrics                    Prometheus
#pragma once

#include <memory>

#include "sidecar/app/app.h"
#include "sidecar/serve/http_server.h"

namespace remora {

// Each hook that waits holds one.
inline constexpr size_t pod_connections_max = 128;
// The kubelet is one source, a neighbour another.
inline constexpr size_t pod_connections_per_source_max = 64;
// How long /drained waits for the pod's end to begin: all hooks of a pod run at the same time.
inline constexpr int drain_begin_wait_ms_max = 2'000;

class PodEndpoints {
 public:
  // app must outlive it. Errors: those of Listener::open.
  static Result<std::unique_ptr<PodEndpoints>> open(App& app, const SocketAddress& listen);

  const SocketAddress& address() const { return server_->address(); }

 private:
  explicit PodEndpoints(App& app) : app_(app) {}
  void answer(const ServerRequest& request, ServerRespond respond);
  void answer_probe(std::string_view rest, ServerRespond respond);
  void answer_drained(ServerRespond respond);

  App& app_;
  std::unique_ptr<HttpServer> server_;
};

}  // namespace remora
