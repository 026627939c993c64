// Ranges of ports and networks, as they are written in flags, configuration and annotations to say
// what is not intercepted. One reading for all of them: what admission takes, the init step takes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "sidecar/base/error.h"

namespace remora {

// Each exclusion is one rule, and a connection's first packet passes them all.
inline constexpr size_t excluded_ports_max = 64;  // for each direction
inline constexpr size_t excluded_addresses_max = 128;
inline constexpr size_t excluded_owners_max = 32;  // uids, and gids

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

}  // namespace remora
