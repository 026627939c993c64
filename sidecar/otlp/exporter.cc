#include "sidecar/otlp/exporter.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include "config/read_file.h"
#include "config/system_certificates.h"
#include "sidecar/base/log.h"
#include "sidecar/net/named_connect.h"

namespace remora::otlp {
namespace {

constexpr std::string_view traces_path = "v1/traces";

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

// "a=b,c=d", values percent-encoded (of which nothing is needed here but that they stay text).
void add_attributes(std::string_view text, Attributes& resource) {
  while (!text.empty()) {
    const size_t comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    const size_t equals = item.find('=');
    if (equals != item.npos && equals > 0) {
      resource.emplace_back(item.substr(0, equals), item.substr(equals + 1));
    }
    text.remove_prefix(comma == text.npos ? text.size() : comma + 1);
  }
}

Attributes resource_of(const ExporterSettings& settings) {
  Attributes resource;
  const std::string name = environment("OTEL_SERVICE_NAME");
  resource.emplace_back("service.name", name.empty() ? settings.service : name);
  resource.emplace_back("service.version", REMORA_VERSION);
  constexpr std::array<std::pair<const char*, const char*>, 4> of_pod = {
      {{"REMORA_POD_NAME", "k8s.pod.name"},
       {"REMORA_POD_NAMESPACE", "k8s.namespace.name"},
       {"REMORA_POD_UID", "k8s.pod.uid"},
       {"REMORA_NODE_NAME", "k8s.node.name"}}};
  for (const auto& [variable, key] : of_pod) {
    if (std::string value = environment(variable); !value.empty()) {
      resource.emplace_back(key, std::move(value));
    }
  }
  add_attributes(environment("OTEL_RESOURCE_ATTRIBUTES"), resource);
  return resource;
}

// The whole URL; empty: none is named.
std::string url_of(const ExporterSettings& settings) {
  std::string url = settings.endpoint;
  if (url.empty()) {
    if (std::string whole = environment("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"); !whole.empty()) {
      return whole;
    }
    url = environment("OTEL_EXPORTER_OTLP_ENDPOINT");
  }
  if (url.empty()) return {};
  if (!url.ends_with('/')) url += '/';
  return url.append(traces_path);
}

Result<std::shared_ptr<const TlsContext>> tls_of(const ExporterSettings& settings) {
  std::string file = settings.certificate_file;
  if (file.empty()) file = environment("OTEL_EXPORTER_OTLP_CERTIFICATE");
  Result<std::string> trusted = file.empty()
                                    ? config::system_certificates()
                                    : config::read_file(file, config::certificates_bytes_max);
  if (!trusted) return std::unexpected(std::move(trusted.error()));
  return make_tls_client_context(*trusted);
}

// The URL is not repeated: it may be a secret by itself.
Result<std::unique_ptr<Exporter>> make_exporter(EventLoop& loop, const ExporterSettings& settings,
                                                const std::string& url) {
  const config::Parsed<config::Gateway> parsed = config::parse_gateway("OTLP_ENDPOINT=" + url);
  if (!parsed) {
    return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig,
                      "the endpoint is no http:// or https:// URL; write http://HOST:4318");
  }
  std::shared_ptr<const TlsContext> tls;
  if (parsed->tls) {
    Result<std::shared_ptr<const TlsContext>> made = tls_of(settings);
    if (!made) return std::unexpected(std::move(made.error()));
    tls = std::move(*made);
  }
  return std::make_unique<Exporter>(loop, *parsed, std::move(tls), resource_of(settings),
                                    settings.socket_priority);
}

}  // namespace

Exporter::Exporter(EventLoop& loop, config::Gateway endpoint, std::shared_ptr<const TlsContext> tls,
                   Attributes resource, int socket_priority)
    : loop_(loop),
      endpoint_(std::move(endpoint)),
      tls_(std::move(tls)),
      resource_(std::move(resource)),
      socket_priority_(socket_priority) {}

void Exporter::send(const std::vector<Span>& spans) {
  if (waiting_.size() >= traces_waiting_max) {
    log_warn("trace_lost", {{"reason", "too many wait for the collector"}});
    // Not the one that is under way.
    waiting_.erase(waiting_.begin() + (busy_ ? 1 : 0));
  }
  waiting_.push_back(export_request(resource_, spans));
  if (!busy_) send_first();
}

void Exporter::send_first() {
  call_.reset();
  if (waiting_.empty()) {
    busy_ = false;
    return;
  }
  busy_ = true;
  if (client_ == nullptr) {
    if (Result<void> connected = connect(); !connected) return try_later(connected.error().message);
  }
  k8s::ApiRequest request;
  request.method = "POST";
  request.path = endpoint_.path;
  request.body = waiting_.front();
  call_ = client_->call(std::move(request),
                        [this](const Result<k8s::ApiReply>& reply) { on_answer(reply); });
}

Result<void> Exporter::connect() {
  if (resolver_ == nullptr && !is_address(endpoint_.host)) {
    Result<std::unique_ptr<Resolver>> made = Resolver::create(loop_);
    if (!made) return std::unexpected(std::move(made.error()));
    resolver_ = std::move(*made);
  }
  NamedServer named{.host = endpoint_.host, .port = endpoint_.port, .tls = tls_};
  named.socket_priority = socket_priority_;
  k8s::ApiServer server;
  server.name = endpoint_.host;
  server.tls = false;
  server.connect = [this, named] { return connect_by_name(loop_, resolver_.get(), named); };
  Result<std::unique_ptr<k8s::ApiClient>> client = k8s::ApiClient::create(loop_, std::move(server));
  if (!client) return std::unexpected(std::move(client.error()));
  client_ = std::move(*client);
  return {};
}

// What a collector refuses for good (OTLP/HTTP, "Failures") is dropped, all else is tried again.
void Exporter::on_answer(const Result<k8s::ApiReply>& reply) {
  if (!reply) return try_later(reply.error().message);
  const int status = reply->status;
  if (status == 429 || status == 502 || status == 503 || status == 504) {
    return try_later("the collector answered " + std::to_string(status));
  }
  if (!reply->ok()) {
    log_warn("trace_lost", {{"reason", "the collector answered " + std::to_string(status)}});
  }
  retry_ms_ = trace_retry_ms_min;
  waiting_.pop_front();
  // Not from inside the call's own answer, which send_first() ends.
  timer_ = loop_.add_timer(Duration::zero(), [this] { send_first(); });
}

void Exporter::try_later(const std::string& why) {
  log_debug("trace_waits", {{"reason", why}, {"retry_ms", retry_ms_}});
  timer_ = loop_.add_timer(std::chrono::milliseconds(retry_ms_), [this] {
    call_.reset();
    client_.reset();
    send_first();
  });
  retry_ms_ = std::min(2 * retry_ms_, trace_retry_ms_max);
}

std::unique_ptr<Exporter> open_exporter(EventLoop& loop, const ExporterSettings& settings) {
  const std::string url = url_of(settings);
  if (url.empty()) return nullptr;
  Result<std::unique_ptr<Exporter>> exporter = make_exporter(loop, settings, url);
  if (exporter) return std::move(*exporter);
  log_warn("traces_off", {{"reason", exporter.error().message}});
  return nullptr;
}

}  // namespace remora::otlp
