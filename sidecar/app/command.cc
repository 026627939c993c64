#include "sidecar/app/command.h"

#include <cstdio>
#include <utility>

#include "sidecar/base/exit_codes.h"

namespace remora {

Result<config::IsolatedLoad> load_checked(const std::string& file,
                                          std::span<const config::Override> overrides) {
  Result<config::IsolatedLoad> loaded = config::load_isolated(file, overrides);
  if (!loaded || loaded->ok()) return loaded;
  std::string message;
  for (const config::Problem& problem : loaded->problems) {
    if (!message.empty()) message += "\nremora: ";
    message += config::format_problem(problem);
  }
  return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig, std::move(message));
}

AppConfig app_config(std::string agent_name, config::IsolatedLoad loaded) {
  AppConfig config;
  config.agents.push_back({.name = std::move(agent_name), .config = loaded.config});
  if (loaded.config.has_outbound()) {
    OutboundOptions outbound;
    // A port of the schema's range, on an address that is one.
    outbound.proxy = *make_socket_address(
        "127.0.0.1", static_cast<uint16_t>(loaded.config.outbound().proxy_port()));
    config.outbound = outbound;
  }
  config.shared = std::move(loaded.config);
  config.yaml = std::move(loaded.yaml);
  config.json = std::move(loaded.json);
  return config;
}

int report_failure(const Error& error, int exit_code) {
  std::fprintf(stderr, "remora: %s\n", error.message.c_str());
  return exit_code;
}

int exit_code_of(const Error& error) {
  return error.code == ErrorCode::kUnsupportedVersion ? exit_newer_format
         : error.code == ErrorCode::kInvalidArgument  ? exit_usage
                                                      : exit_failed;
}

}  // namespace remora
