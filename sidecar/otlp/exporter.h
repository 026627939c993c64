// Sends traces to an OpenTelemetry collector, over OTLP/HTTP. Off unless one is named: by a
// setting, else by the environment, in OpenTelemetry's own variables:
//   OTEL_EXPORTER_OTLP_TRACES_ENDPOINT  the whole URL, or
//   OTEL_EXPORTER_OTLP_ENDPOINT         the URL to which v1/traces is added
//   OTEL_EXPORTER_OTLP_CERTIFICATE      of an https:// one: file of the authorities that it is
//                                       checked against
// OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES are read whoever names it.
//
// What can't be sent waits, up to a limit, and is tried again; when there are more, the oldest is
// lost, which is logged. Nothing of the data path waits for it. Loop thread only.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "config/gateway.h"
#include "k8s/api/client.h"
#include "sidecar/net/event_loop.h"
#include "sidecar/net/resolver.h"
#include "sidecar/otlp/traces.h"

namespace remora::otlp {

inline constexpr size_t traces_waiting_max = 64;
inline constexpr int trace_retry_ms_min = 1'000;
inline constexpr int trace_retry_ms_max = 60'000;

struct ExporterSettings {
  std::string endpoint;            // base URL; empty: as the environment says
  std::string certificate_file;    // empty: as the environment says, else the system's authorities
  std::string service = "remora";  // service.name, unless OTEL_SERVICE_NAME says another
  int socket_priority = 0;         // see connect_socket
};

class Exporter {
 public:
  // tls: null where the endpoint has none.
  Exporter(EventLoop& loop, config::Gateway endpoint, std::shared_ptr<const TlsContext> tls,
           Attributes resource, int socket_priority);

  void send(const std::vector<Span>& spans);

 private:
  void send_first();
  Result<void> connect();
  void on_answer(const Result<k8s::ApiReply>& reply);
  void try_later(const std::string& why);

  EventLoop& loop_;
  const config::Gateway endpoint_;
  const std::shared_ptr<const TlsContext> tls_;
  const Attributes resource_;
  const int socket_priority_;
  std::deque<std::string> waiting_;  // the first is being sent while busy_
  std::unique_ptr<Resolver> resolver_;
  std::unique_ptr<k8s::ApiClient> client_;  // gone after a failure: the name is looked up again
  std::unique_ptr<k8s::ApiCall> call_;
  bool busy_ = false;
  int retry_ms_ = trace_retry_ms_min;
  Subscription timer_;
};

// Null where no endpoint is named, or one that can't be used, which is logged.
std::unique_ptr<Exporter> open_exporter(EventLoop& loop, const ExporterSettings& settings);

}  // namespace remora::otlp
