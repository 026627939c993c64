// What to intercept and what to leave alone. Plain values: flags, configuration and annotations all
// end here, and validate() says everything that is wrong with them at once.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/base/error.h"

namespace remora::intercept {

// Each exclusion is one rule, and a connection's first packet passes them all.
inline constexpr size_t excluded_ports_max = 64;  // for each direction
inline constexpr size_t excluded_addresses_max = 128;
inline constexpr size_t excluded_owners_max = 32;  // uids, and gids
// The sidecar isn't root, so it can't listen below.
inline constexpr uint16_t capture_port_min = 1024;

struct PortRange {
  uint16_t first = 0;
  uint16_t last = 0;
  bool operator==(const PortRange&) const = default;
  bool contains(uint16_t port) const { return first <= port && port <= last; }
  std::string to_string() const;  // "80", "8000-8080"
};

// An address with the number of its bits that count. The others are zero.
struct Cidr {
  bool is_v6 = false;
  std::array<uint8_t, 16> address{};  // the first 4 for IPv4
  uint8_t bits = 0;
  bool operator==(const Cidr&) const = default;
  size_t address_bytes() const { return is_v6 ? 16 : 4; }
  std::string to_string() const;  // "10.0.0.0/8", "10.1.2.3", "fd00::/8"
};

// "80" or "8000-8080"; ports are 1 to 65535.
Result<PortRange> parse_port_range(std::string_view text);
// "10.0.0.0/8", "10.1.2.3", "fd00::/8". Bits beyond the prefix must be zero, and the message names
// the network that was probably meant.
Result<Cidr> parse_cidr(std::string_view text);

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
