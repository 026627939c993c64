#include "sidecar/net/address_ranges.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include <arpa/inet.h>

namespace remora {
namespace {

constexpr size_t address_text_bytes_max = 64;

template <typename T>
std::optional<T> number(std::string_view text) {
  T value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return {};
  return value;
}

std::unexpected<Error> invalid(std::string_view what, std::string_view text, std::string_view why) {
  std::string message(what);
  message.append(" \"").append(text.substr(0, address_text_bytes_max)).append("\": ").append(why);
  return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig, std::move(message));
}

std::optional<uint16_t> port_number(std::string_view text) {
  const auto port = number<uint16_t>(text);
  return port && *port > 0 ? port : std::nullopt;
}

bool is_mapped_v4(const Cidr& cidr) {
  constexpr std::array<uint8_t, 12> prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::equal(prefix.begin(), prefix.end(), cidr.address.begin());
}

// Zeroes what lies beyond the prefix.
Cidr network_of(Cidr cidr) {
  for (size_t i = 0; i < cidr.address.size(); ++i) {
    const size_t bits_before = i * 8;
    if (bits_before >= cidr.bits) {
      cidr.address[i] = 0;
    } else if (cidr.bits - bits_before < 8) {
      cidr.address[i] &= static_cast<uint8_t>(0xff00 >> (cidr.bits - bits_before));
    }
  }
  return cidr;
}

}  // namespace

std::string PortRange::to_string() const {
  std::string text = std::to_string(first);
  if (last != first) text.append("-").append(std::to_string(last));
  return text;
}

std::string Cidr::to_string() const {
  char text[INET6_ADDRSTRLEN] = {};
  inet_ntop(is_v6 ? AF_INET6 : AF_INET, address.data(), text, sizeof text);
  std::string result = text;
  if (bits != address_bytes() * 8) result.append("/").append(std::to_string(bits));
  return result;
}

Result<PortRange> parse_port_range(std::string_view text) {
  const size_t dash = text.find('-');
  const auto first = port_number(text.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : port_number(text.substr(dash + 1));
  if (!first || !last) {
    return invalid("port", text, "write a port from 1 to 65535, or two of them as 8000-8080");
  }
  if (*last < *first) return invalid("ports", text, "the second must not be below the first");
  return PortRange{*first, *last};
}

Result<Cidr> parse_cidr(std::string_view text) {
  constexpr std::string_view how =
      "write an IP address, or a network such as 10.0.0.0/8 or fd00::/8";
  const size_t slash = text.find('/');
  const std::string_view host = text.substr(0, slash);
  if (host.size() > address_text_bytes_max || host.contains('\0')) {
    return invalid("address", text, how);
  }
  Cidr cidr;
  const std::string name(host);
  if (inet_pton(AF_INET, name.c_str(), cidr.address.data()) != 1) {
    cidr.is_v6 = true;
    if (inet_pton(AF_INET6, name.c_str(), cidr.address.data()) != 1) {
      return invalid("address", text, how);
    }
  }
  cidr.bits = static_cast<uint8_t>(cidr.address_bytes() * 8);
  if (cidr.is_v6 && is_mapped_v4(cidr)) {
    // On the wire such connections are IPv4, and a rule for IPv6 would not meet them.
    return invalid("address", text, "write the IPv4 address itself, without ::ffff:");
  }
  if (slash == std::string_view::npos) return cidr;
  const auto bits = number<uint8_t>(text.substr(slash + 1));
  if (!bits || *bits > cidr.bits) {
    return invalid("address", text,
                   "the prefix length is a number from 0 to " + std::to_string(cidr.bits));
  }
  cidr.bits = *bits;
  const Cidr network = network_of(cidr);
  if (network != cidr) {
    return invalid("address", text,
                   "bits are set beyond the prefix; write " + network.to_string() +
                       " for the network or leave the prefix away for the one address");
  }
  return cidr;
}

}  // namespace remora
