#include "sidecar/proxy/inbound_capture.h"

#include <algorithm>
#include <utility>

#include "sidecar/base/log.h"
#include "sidecar/net/original_dst.h"
#include "sidecar/net/tcp.h"

namespace remora {

Result<std::unique_ptr<InboundCapture>> InboundCapture::open(Loop& loop,
                                                             const SocketAddress& listen,
                                                             std::vector<Route> routes) {
  std::unique_ptr<InboundCapture> capture(new InboundCapture(loop, std::move(routes)));
  Result<std::unique_ptr<Listener>> listener =
      Listener::open_raw(loop, listen, [self = capture.get()](UniqueFd fd, std::string peer) {
        self->on_accept(std::move(fd), std::move(peer));
      });
  if (!listener) return std::unexpected(std::move(listener.error()));
  capture->listener_ = std::move(*listener);
  return capture;
}

void InboundCapture::on_accept(UniqueFd fd, std::string peer) {
  const Result<std::optional<SocketAddress>> meant = original_destination(fd.get());
  if (!meant) {
    log_warn("capture_refused", {{"peer", peer}, {"reason", meant.error().message}});
    return;
  }
  ProxyServer* const proxy = *meant ? proxy_for(**meant) : routes_.front().proxy;
  if (proxy != nullptr) proxy->accept(adopt_socket(loop_, std::move(fd), std::move(peer)));
}

ProxyServer* InboundCapture::proxy_for(const SocketAddress& meant) {
  const auto route = std::ranges::find(routes_, meant.port(), &Route::port);
  if (route != routes_.end()) return route->proxy;
  const auto known = relays_.find(meant.to_string());
  if (known != relays_.end()) return known->second.get();
  if (relays_.size() >= relayed_ports_max) {
    log_warn("capture_refused", {{"destination", meant.to_string()}, {"reason", "too many"}});
    return nullptr;
  }
  ProxyOptions options;
  options.name = "relay";
  options.accepts = false;
  options.protocol = ListenerProtocol::kTcp;
  options.upstream.address = meant;
  options.exchange.hold_wait = Duration{0};
  Result<std::unique_ptr<ProxyServer>> relay =
      ProxyServer::start(loop_, always_, std::move(options), {});
  return relays_.emplace(meant.to_string(), std::move(*relay)).first->second.get();
}

}  // namespace remora
