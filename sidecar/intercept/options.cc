#include "sidecar/intercept/options.h"

#include <string>
#include <string_view>
#include <utility>

namespace remora::intercept {
namespace {

void too_many(std::vector<std::string>& problems, std::string_view what, size_t count,
              size_t most) {
  if (count <= most) return;
  problems.push_back(std::to_string(count) + " " + std::string(what) + ", at most " +
                     std::to_string(most) + "; join neighbours into ranges");
}

void check_capture_ports(const InterceptOptions& options, std::vector<std::string>& problems) {
  const auto check = [&](const char* name, uint16_t port) {
    if (port >= capture_port_min) return;
    problems.push_back(std::string(name) + " port " + std::to_string(port) + ": choose one from " +
                       std::to_string(capture_port_min) + " up, the sidecar is not root");
  };
  check("inbound", options.inbound_port);
  check("outbound", options.outbound_port);
  check("health", options.health_port);
  if (options.inbound_port == options.outbound_port ||
      options.inbound_port == options.health_port || options.outbound_port == options.health_port) {
    problems.emplace_back("inbound, outbound and health port must differ from each other");
  }
}

}  // namespace

Result<void> validate(const InterceptOptions& options) {
  std::vector<std::string> problems;
  if (!options.inbound && !options.outbound) {
    problems.emplace_back(
        "neither inbound nor outbound is to be intercepted; leave one of them on");
  }
  check_capture_ports(options, problems);
  too_many(problems, "excluded inbound ports", options.exclude_inbound_ports.size(),
           excluded_ports_max);
  too_many(problems, "excluded outbound ports", options.exclude_outbound_ports.size(),
           excluded_ports_max);
  too_many(problems, "excluded outbound addresses", options.exclude_outbound_addresses.size(),
           excluded_addresses_max);
  too_many(problems, "excluded uids", options.exclude_uids.size(), excluded_owners_max);
  too_many(problems, "excluded gids", options.exclude_gids.size(), excluded_owners_max);
  for (const auto* ranges : {&options.exclude_inbound_ports, &options.exclude_outbound_ports}) {
    for (const PortRange& range : *ranges) {
      if (range.first == 0 || range.last < range.first) {
        problems.push_back("ports " + range.to_string() + ": not a range from 1 to 65535");
      }
    }
  }
  if (problems.empty()) return {};
  std::string message;
  for (const std::string& problem : problems) {
    if (!message.empty()) message += "; ";
    message += problem;
  }
  return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig, std::move(message));
}

}  // namespace remora::intercept
