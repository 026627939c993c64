// What to intercept and what to leave alone. Plain values: flags, configuration and annotations all
// end here, and validate() says everything that is wrong with them at once.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "sidecar/base/error.h"
#include "sidecar/net/address_ranges.h"

namespace remora::intercept {

// The sidecar isn't root, so it can't listen below.
inline constexpr uint16_t capture_port_min = 1024;

struct InterceptOptions {
  bool inbound = true;
  bool outbound = true;
  // Where the sidecar listens. Outbound connections arrive on loopback, inbound ones on the
  // address that they came to; both in IPv4 and IPv6.
  uint16_t inbound_port = 15006;
  uint16_t outbound_port = 15001;
  // The kubelet asks here about the sidecar itself; never redirected.
  uint16_t health_port = 15020;
  // Set: the sidecar runs with a uid of its own, and that exempts its connections. Unset: their
  // SO_PRIORITY does (own_socket_priority in sidecar/net/tcp.h), which an agent can imitate.
  std::optional<uint32_t> sidecar_uid;
  std::vector<PortRange> exclude_inbound_ports;
  std::vector<PortRange> exclude_outbound_ports;
  std::vector<Cidr> exclude_outbound_addresses;
  std::vector<uint32_t> exclude_uids;
  std::vector<uint32_t> exclude_gids;
};

// kInvalidArgument with every problem in one message, separated by "; ".
Result<void> validate(const InterceptOptions& options);

}  // namespace remora::intercept
