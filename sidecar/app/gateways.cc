#include "sidecar/app/gateways.h"

#include <utility>

#include "config/gateway.h"
#include "config/read_file.h"
#include "config/system_certificates.h"
#include "filters/authority/authority.h"
#include "filters/observe/observe.h"
#include "sidecar/base/log.h"
#include "sidecar/net/named_connect.h"
#include "sidecar/proxy/proxy_server.h"

namespace remora {
namespace {

// Below what servers usually allow (60 s and more), so that a call rarely meets one that is
// closing.
constexpr Duration kIdleTimeout = std::chrono::seconds(30);
// A model may think for minutes before its first byte, and its client decides how long it waits.
constexpr Duration kCallerIdleTimeout = std::chrono::minutes(10);

Result<std::shared_ptr<const TlsContext>> client_tls(const config::Outbound& outbound) {
  const bool is_own = !outbound.trusted_certificates().empty();
  Result<std::string> pem =
      is_own ? config::read_file(outbound.trusted_certificates(), config::certificates_bytes_max)
             : config::system_certificates();
  if (!pem) return std::unexpected(std::move(pem.error()).with_context("outbound.gateways"));
  Result<std::shared_ptr<const TlsContext>> context = make_tls_client_context(*pem);
  if (!context)
    return std::unexpected(std::move(context.error()).with_context("outbound.gateways"));
  return context;
}

class Gateway final : RequestObserver {
 public:
  Gateway(EventLoop& loop, MetricRegistry& registry, const std::string& name)
      : gate_(loop), metrics_(registry, name, "gateway") {
    gate_.open();
  }

  Result<void> open(EventLoop& loop, Resolver* resolver, NamedServer server, uint16_t port,
                    const std::string& authority) {
    Result<SocketAddress> listen = make_socket_address("127.0.0.1", port);
    if (!listen) return std::unexpected(std::move(listen.error()));
    ProxyOptions options;
    options.name = "gateway";
    options.listen = *listen;
    options.protocol = ListenerProtocol::kHttp1;
    options.timeouts.idle = kCallerIdleTimeout;
    options.upstream.idle_timeout = kIdleTimeout;
    options.upstream.connect = [&loop, resolver, server = std::move(server)] {
      return connect_by_name(loop, resolver, server);
    };
    options.router.app_protocol = AppProtocol::kHttp1;
    options.exchange.is_outbound = true;
    FilterChain filters;
    RequestObserver& observer = *this;
    filters.push_back(std::make_unique<ObserveFilter>(observer));
    filters.push_back(std::make_unique<AuthorityFilter>(authority));
    Result<std::unique_ptr<ProxyServer>> proxy =
        ProxyServer::start(loop, gate_, std::move(options), std::move(filters));
    if (!proxy) {
      Error error = std::move(proxy.error()).with_context("outbound.gatewayPort");
      error.message += "; set it to a free one (remora.dev/gateway-port)";
      return std::unexpected(std::move(error));
    }
    proxy_ = std::move(*proxy);
    return {};
  }

  const SocketAddress& address() const { return proxy_->address(); }

  void collect_metrics() {
    const ProxyCounters& counted = proxy_->counters();
    metrics_.in_flight.set(static_cast<double>(proxy_->in_flight()));
    metrics_.connections.set(static_cast<double>(proxy_->connections()));
    metrics_.upstream_connections.set(static_cast<double>(proxy_->upstream_connections()));
    metrics_.connect_failures.set(counted.connect_failures);
    metrics_.bytes_to_agent.set(counted.bytes_to_agent);
    metrics_.bytes_from_agent.set(counted.bytes_from_agent);
  }

 private:
  void on_request_finished(const ExchangeInfo& info) override {
    metrics_.on_request_finished(info.status, info.ended_at - info.began_at);
  }

  AgentGate gate_;
  ListenerMetrics metrics_;
  std::unique_ptr<ProxyServer> proxy_;
};

class AllGateways final : public Gateways {
 public:
  Result<void> open(EventLoop& loop, MetricRegistry& registry, const config::Outbound& outbound,
                    int socket_priority) {
    std::shared_ptr<const TlsContext> tls;
    int port = outbound.gateway_port();
    for (const std::string& text : outbound.gateways()) {
      const config::Parsed<config::Gateway> wanted = config::parse_gateway(text);
      if (!wanted) {
        return make_error(
            ErrorCode::kInvalidArgument, ErrorSource::kConfig,
            "outbound.gateways: " + wanted.error().message + "; " + wanted.error().mend);
      }
      if (wanted->tls && !tls) {
        Result<std::shared_ptr<const TlsContext>> made = client_tls(outbound);
        if (!made) return std::unexpected(std::move(made.error()));
        tls = std::move(*made);
      }
      if (!resolver_ && !is_address(wanted->host)) {
        Result<std::unique_ptr<Resolver>> made = Resolver::create(loop);
        if (!made) return std::unexpected(std::move(made.error()));
        resolver_ = std::move(*made);
      }
      auto gateway = std::make_unique<Gateway>(loop, registry, wanted->variable);
      NamedServer server{.host = wanted->host,
                         .port = wanted->port,
                         .tls = wanted->tls ? tls : nullptr,
                         .socket_priority = socket_priority};
      if (Result<void> opened = gateway->open(loop, resolver_.get(), std::move(server),
                                              static_cast<uint16_t>(port++), wanted->authority());
          !opened) {
        return opened;
      }
      log_info("listening", {{"listener", "gateway"},
                             {"address", gateway->address().to_string()},
                             {"variable", wanted->variable},
                             {"server", wanted->authority()}});
      gateways_.push_back(std::move(gateway));
    }
    return {};
  }

  void collect_metrics() override {
    for (const auto& gateway : gateways_) gateway->collect_metrics();
  }

 private:
  std::unique_ptr<Resolver> resolver_;  // none where all hosts are addresses
  std::vector<std::unique_ptr<Gateway>> gateways_;
};

}  // namespace

Result<std::unique_ptr<Gateways>> Gateways::open(EventLoop& loop, MetricRegistry& registry,
                                                 const config::Outbound& outbound,
                                                 int socket_priority) {
  auto all = std::make_unique<AllGateways>();
  if (Result<void> opened = all->open(loop, registry, outbound, socket_priority); !opened) {
    return std::unexpected(std::move(opened.error()));
  }
  return all;
}

}  // namespace remora
