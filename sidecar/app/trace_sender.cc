#include "sidecar/app/trace_sender.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <utility>

#include "config/read_file.h"
#include "sidecar/base/log.h"
#include "sidecar/net/named_connect.h"

namespace remora {
namespace {

constexpr std::string_view https = "https://";
constexpr std::string_view http = "http://";
constexpr std::string_view traces_path = "v1/traces";
constexpr uint16_t port_default = 4318;
constexpr size_t authority_bytes_max = 1 << 20;

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

std::unexpected<Error> unusable(const std::string& what) {
  return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig,
                    what + "; write http://HOST:4318");
}

// "a=b,c=d", values percent-encoded (of which nothing is needed here but that they stay text).
void add_attributes(std::string_view text, TraceResource& resource) {
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

TraceResource resource_from_environment() {
  TraceResource resource;
  const std::string name = environment("OTEL_SERVICE_NAME");
  resource.emplace_back("service.name", name.empty() ? "remora" : name);
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

Result<TraceOptions> options_from_environment() {
  std::string url = environment("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
  if (url.empty()) {
    url = environment("OTEL_EXPORTER_OTLP_ENDPOINT");
    if (!url.ends_with('/')) url += '/';
    url += traces_path;
  }
  Result<TraceOptions> options = parse_trace_endpoint(url);
  if (!options) return options;
  options->resource = resource_from_environment();
  if (!options->tls) return options;
  const std::string file = environment("OTEL_EXPORTER_OTLP_CERTIFICATE");
  if (file.empty()) return unusable("https needs OTEL_EXPORTER_OTLP_CERTIFICATE");
  Result<std::string> trusted = config::read_file(file, authority_bytes_max);
  if (!trusted) return std::unexpected(std::move(trusted.error()));
  options->trusted_pem = std::move(*trusted);
  return options;
}

}  // namespace

Result<TraceOptions> parse_trace_endpoint(std::string_view url) {
  TraceOptions options;
  options.tls = url.starts_with(https);
  if (!options.tls && !url.starts_with(http)) return unusable("the endpoint is no http:// URL");
  url.remove_prefix(options.tls ? https.size() : http.size());
  const size_t slash = std::min(url.find('/'), url.size());
  std::string_view host = url.substr(0, slash);
  options.path = slash == url.size() ? "/" : url.substr(slash);
  if (host.find_first_of("@?# ") != host.npos) return unusable("the endpoint is no http:// URL");
  const size_t bracket = host.rfind(']');
  const size_t colon = host.find(':', bracket == host.npos ? 0 : bracket);
  options.port = port_default;
  if (colon != host.npos) {
    const std::string_view text = host.substr(colon + 1);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), options.port);
    const bool whole = error == std::errc() && end == text.data() + text.size();
    if (!whole || options.port == 0) return unusable("the endpoint's port is none");
    host = host.substr(0, colon);
  }
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host.empty()) return unusable("the endpoint has no host");
  options.host = host;
  return options;
}

TraceSender::TraceSender(EventLoop& loop, TraceOptions options)
    : loop_(loop), options_(std::move(options)) {}

void TraceSender::tell(std::string_view agent, const Incident& incident) {
  if (incident.status != IncidentStatus::kClosed) return;
  if (waiting_.size() >= traces_waiting_max) {
    log_warn("trace_lost", {{"reason", "too many wait for the collector"}});
    // Not the one that is under way.
    waiting_.erase(waiting_.begin() + (busy_ ? 1 : 0));
  }
  waiting_.push_back(healing_trace(incident, agent, options_.resource));
  if (!busy_) send_first();
}

void TraceSender::send_first() {
  call_.reset();
  if (waiting_.empty()) {
    busy_ = false;
    return;
  }
  busy_ = true;
  if (client_ != nullptr) return post();
  if (is_address(options_.host)) {
    Result<SocketAddress> address = make_socket_address(options_.host, options_.port);
    if (!address) return connect(std::unexpected(std::move(address.error())));
    return connect(std::vector<SocketAddress>{*address});
  }
  if (resolver_ == nullptr) {
    Result<std::unique_ptr<Resolver>> made = Resolver::create(loop_);
    if (!made) return try_later(made.error().message);
    resolver_ = std::move(*made);
  }
  lookup_ = resolver_->resolve(options_.host, options_.port,
                               [this](const auto& addresses) { connect(addresses); });
}

void TraceSender::connect(const Result<std::vector<SocketAddress>>& addresses) {
  if (!addresses) return try_later(addresses.error().message);
  k8s::ApiServer server;
  server.address = addresses->front();
  server.name = options_.host;
  server.tls = options_.tls;
  server.trusted_pem = options_.trusted_pem;
  Result<std::unique_ptr<k8s::ApiClient>> client = k8s::ApiClient::create(loop_, std::move(server));
  if (!client) return try_later(client.error().message);
  client_ = std::move(*client);
  post();
}

void TraceSender::post() {
  k8s::ApiRequest request;
  request.method = "POST";
  request.path = options_.path;
  request.body = waiting_.front();
  call_ = client_->call(std::move(request),
                        [this](const Result<k8s::ApiReply>& reply) { on_answer(reply); });
}

// What a collector refuses for good (OTLP/HTTP, "Failures") is dropped, all else is tried again.
void TraceSender::on_answer(const Result<k8s::ApiReply>& reply) {
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

void TraceSender::try_later(const std::string& why) {
  log_debug("trace_waits", {{"reason", why}, {"retry_ms", retry_ms_}});
  timer_ = loop_.add_timer(std::chrono::milliseconds(retry_ms_), [this] {
    call_.reset();
    client_.reset();
    send_first();
  });
  retry_ms_ = std::min(2 * retry_ms_, trace_retry_ms_max);
}

std::unique_ptr<TraceSender> open_trace_sender(EventLoop& loop) {
  if (environment("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").empty() &&
      environment("OTEL_EXPORTER_OTLP_ENDPOINT").empty()) {
    return nullptr;
  }
  Result<TraceOptions> options = options_from_environment();
  if (options) return std::make_unique<TraceSender>(loop, std::move(*options));
  log_warn("traces_off", {{"reason", options.error().message}});
  return nullptr;
}

}  // namespace remora
