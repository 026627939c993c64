// Everything that options_from_config makes of one configuration.
#pragma once

#include <string>

#include <gtest/gtest.h>

#include "config/load.h"
#include "sidecar/app/options_from_config.h"

namespace remora {

struct AllOptions {
  ProxyOptions proxy;
  InboundFilterOptions filters;
  ChildAgentOptions child;
  SupervisorOptions supervisor;
  ProgressOptions progress;
  ProbeSet probes;
  LogLevel log = LogLevel::kInfo;
};

inline config::Config config_of(const std::string& yaml) {
  const config::LoadResult loaded = config::load_yaml(yaml, "remora.yaml");
  for (const config::Problem& problem : loaded.problems) {
    ADD_FAILURE() << config::format_problem(problem);
  }
  return loaded.config;
}

inline AllOptions options_of(const config::Config& config) {
  const Result<ProxyOptions> proxy = proxy_options(config);
  const Result<ProbeSet> probes = probe_set(config);
  EXPECT_TRUE(proxy.has_value()) << proxy.error().message;
  EXPECT_TRUE(probes.has_value()) << probes.error().message;
  return {.proxy = proxy.value_or(ProxyOptions{}),
          .filters = filter_options(config),
          .child = child_options(config),
          .supervisor = supervisor_options(config),
          .progress = progress_options(config),
          .probes = probes.value_or(ProbeSet{}),
          .log = log_level_of(config)};
}

}  // namespace remora
