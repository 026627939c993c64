// Sends the trace of each healing to an OpenTelemetry collector, over OTLP/HTTP. Off unless the
// environment names one, in OpenTelemetry's own variables:
//   OTEL_EXPORTER_OTLP_TRACES_ENDPOINT  the whole URL, or
//   OTEL_EXPORTER_OTLP_ENDPOINT         the URL to which v1/traces is added
//   OTEL_EXPORTER_OTLP_CERTIFICATE      of an https:// one: file of the authority that it is
//                                       checked against
//   OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES
//
// What can't be sent waits, up to a limit, and is tried again; when there are more, the oldest is
// lost, which is logged. Nothing of the data path waits for it. Loop thread only.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "k8s/api/client.h"
#include "sidecar/app/healing_trace.h"
#include "sidecar/net/event_loop.h"
#include "sidecar/net/resolver.h"

namespace remora {

inline constexpr size_t traces_waiting_max = 64;
inline constexpr int trace_retry_ms_min = 1'000;
inline constexpr int trace_retry_ms_max = 60'000;

struct TraceOptions {
  std::string host;
  uint16_t port = 0;
  bool tls = false;
  std::string path;
  std::string trusted_pem;  // required with tls
  TraceResource resource;
};
// Pure. kInvalidArgument for a URL that can't be used, with what to write.
Result<TraceOptions> parse_trace_endpoint(std::string_view url);

class TraceSender {
 public:
  TraceSender(EventLoop& loop, TraceOptions options);

  // Nothing for one that is still open.
  void tell(std::string_view agent, const Incident& incident);

 private:
  void send_first();
  void connect(const Result<std::vector<SocketAddress>>& addresses);
  void post();
  void on_answer(const Result<k8s::ApiReply>& reply);
  void try_later(const std::string& why);

  EventLoop& loop_;
  const TraceOptions options_;
  std::deque<std::string> waiting_;  // the first is being sent while busy_
  std::unique_ptr<Resolver> resolver_;
  std::unique_ptr<Lookup> lookup_;
  std::unique_ptr<k8s::ApiClient> client_;  // gone after a failure: the name is looked up again
  std::unique_ptr<k8s::ApiCall> call_;
  bool busy_ = false;
  int retry_ms_ = trace_retry_ms_min;
  Subscription timer_;
};

// As the environment says; nothing where it names no endpoint, or one that can't be used, which is
// logged.
std::unique_ptr<TraceSender> open_trace_sender(EventLoop& loop);

}  // namespace remora
