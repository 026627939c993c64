// A base-URL gateway as it is written in outbound.gateways, "NAME=URL": the environment variable by
// which a client library finds its server, and where that server really is. The agent gets
// NAME=http://127.0.0.1:PORT/PATH, and Remora carries what comes there to the URL.
//
// Pure; no text crashes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/remora.pb.h"
#include "config/scalar.h"

namespace remora::config {

// Each has a port of its own, from outbound.gatewayPort on.
inline constexpr int gateways_max = 16;

struct Gateway {
  std::string variable;  // "OPENAI_BASE_URL"
  bool tls = true;       // https
  std::string host;      // a name, or an address without brackets
  uint16_t port = 443;
  std::string path;  // "/v1"; empty: none

  // As a Host field: the port only where it isn't the scheme's own.
  std::string authority() const;
};

Parsed<Gateway> parse_gateway(std::string_view text);

// What a configuration that was checked has, in order: NAME and the value that the agent gets.
std::vector<std::pair<std::string, std::string>> gateway_environment(const Outbound& outbound);

}  // namespace remora::config
