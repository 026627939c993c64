#include "sidecar/app/pod_config.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>

#include <sys/stat.h>

#include "config/annotations.h"
#include "config/pod.h"
#include "config/policy_values.h"
#include "config/read_file.h"
#include "config/scalar.h"
#include "sidecar/app/command.h"
#include "sidecar/net/tcp.h"

namespace remora {
namespace {

constexpr std::string_view annotations_name = "annotations";
constexpr std::string_view policy_file_name = "policy.json";

// Ports, and the probes that the kubelet would make, unless an annotation or the file has others.
void add_what_was_injected(const config::InjectedAgent& injected, std::string_view restart_policy,
                           AppAgent& agent) {
  // In explicit mode each port has an entrance of its own: that of the first is inbound.listen.
  agent.accepts = injected.ports_size() > 0 && injected.ports(0).inbound_port() != 0;
  const auto listed = [&](const config::InjectedPort& port) {
    return port.port() == agent.config.agent().app_port();
  };
  const bool first_is_replaced = agent.accepts && std::ranges::none_of(injected.ports(), listed);
  // Of a Job's agent, an end with 0 is its success.
  agent.clean_end_is_final = restart_policy == "OnFailure" || restart_policy == "Never";
  agent.restart_policy = restart_policy;
  agent.ends_when_giving_up = false;
  for (const config::InjectedPort& port : injected.ports()) {
    if (listed(port)) continue;
    // By the configuration file: what came in for the first goes to the port that is named there.
    if (first_is_replaced && port.port() == injected.ports(0).port()) continue;
    agent.more_ports.push_back({static_cast<uint16_t>(port.port()), port.protocol(),
                                static_cast<uint16_t>(port.inbound_port())});
  }
  config::Config& config = agent.config;
  if (injected.has_startup_probe() && !config.has_startup_probe()) {
    *config.mutable_startup_probe() = injected.startup_probe();
  }
  if (injected.has_liveness_probe() && !config.has_liveness_probe()) {
    *config.mutable_liveness_probe() = injected.liveness_probe();
  }
  if (injected.has_readiness_probe() && !config.has_readiness_probe()) {
    *config.mutable_readiness_probe() = injected.readiness_probe();
  }
}

// Where the pod's traffic comes in.
Result<void> set_interception(const config::Interception& interception, AppConfig& config) {
  if (interception.mode() == "none") {
    config.outbound.reset();
    return {};
  }
  // A pod that an older version injected has one entrance in explicit mode, too.
  const bool has_entrances = std::ranges::any_of(config.agents, &AppAgent::accepts);
  if (!has_entrances) {
    Result<SocketAddress> capture =
        parse_socket_address(":" + std::to_string(interception.inbound_port()));
    if (!capture) return std::unexpected(std::move(capture.error()));
    config.capture = *capture;
  }
  if (interception.mode() == "explicit") return {};
  OutboundOptions outbound;
  for (const char* loopback : {"127.0.0.1", "::1"}) {
    Result<SocketAddress> address =
        make_socket_address(loopback, static_cast<uint16_t>(interception.outbound_port()));
    if (!address) return std::unexpected(std::move(address.error()));
    outbound.capture.push_back(*address);
  }
  outbound.socket_priority = own_socket_priority;
  config.outbound = std::move(outbound);
  return {};
}

// HOST:PORT; the injection writes no other.
void set_link(const config::Injected& injected, AppConfig& config) {
  const std::string& address = injected.link().address();
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0) return;
  const config::Parsed<int64_t> port = config::parse_integer(address.substr(colon + 1));
  if (!port || *port < 1 || *port > 65535) return;
  config.link = AppLink{.host = address.substr(0, colon),
                        .port = static_cast<uint16_t>(*port),
                        .trusted_pem = injected.link().trusted_pem(),
                        .trusted_file = std::string(config::pod_link_authorities),
                        .claim = injected.link().claim(),
                        .token_file = std::string(config::pod_link_token),
                        .is_redirected = injected.interception().mode() == "transparent"};
}

// An annotation that is changed in a running pod passes no admission.
Result<void> check_names(const config::Annotations& annotations, const config::Injected& injected) {
  std::vector<std::string> agents;
  for (const config::InjectedAgent& agent : injected.agents()) agents.push_back(agent.name());
  const config::Problems problems = config::check_annotation_names(annotations, agents);
  if (problems.empty()) return {};
  return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig, config::in_words(problems));
}

// annotations: as they hold, a policy's included.
Result<AppConfig> load_with(const PodSources& sources, const config::Annotations& annotations) {
  const auto injected_text = annotations.find(config::injected_annotation);
  if (injected_text == annotations.end()) {
    return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig,
                      sources.info_dir + "/annotations: no " +
                          std::string(config::injected_annotation) +
                          "; the pod was not injected by Remora: use remora inject or the webhook");
  }
  Result<config::Injected> injected = config::parse_injected(injected_text->second);
  if (!injected) return std::unexpected(std::move(injected.error()));
  if (Result<void> known = check_names(annotations, *injected); !known) {
    return std::unexpected(std::move(known.error()));
  }
  std::optional<AppConfig> all;
  for (const config::InjectedAgent& agent : injected->agents()) {
    std::vector<config::Override> overrides =
        config::annotation_overrides(annotations, agent.name());
    // What a policy sets is a default, and of two defaults the first holds.
    const auto own = std::ranges::stable_partition(overrides, &config::Override::is_default);
    std::vector<config::Override> of_pod = config::pod_overrides(*injected, agent);
    overrides.insert(own.begin(), std::make_move_iterator(of_pod.begin()),
                     std::make_move_iterator(of_pod.end()));
    std::ranges::copy(sources.overrides, std::back_inserter(overrides));
    Result<config::IsolatedLoad> loaded = load_checked(sources.config_file, overrides);
    if (!loaded) {
      return std::unexpected(std::move(loaded.error()).with_context("agent " + agent.name()));
    }
    if (!all) {
      all = app_config(agent.name(), std::move(*loaded));
    } else {
      all->agents.push_back({.name = agent.name(), .config = std::move(loaded->config)});
    }
    const std::string& its_own = agent.restart_policy();
    add_what_was_injected(agent, its_own.empty() ? injected->restart_policy() : its_own,
                          all->agents.back());
  }
  if (all) {
    if (Result<void> set = set_interception(injected->interception(), *all); !set) {
      return std::unexpected(std::move(set.error()));
    }
    set_link(*injected, *all);
    return std::move(*all);
  }
  return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig,
                    std::string(config::injected_annotation) + " names no agent");
}

Result<AppConfig> load_from(const PodSources& sources) {
  const Result<config::Annotations> annotations =
      config::load_annotation_file(sources.info_dir + "/" + std::string(annotations_name));
  if (!annotations) return std::unexpected(annotations.error());
  return load_with(
      sources, sources.policy ? config::with_policy(*annotations, *sources.policy) : *annotations);
}

// Of this pod, and gone with it; nothing where there is no such place. Beside the admin socket: a
// directory that is the sidecar's own and outlives its container.
std::string last_good_dir() {
  const char* const socket = std::getenv("REMORA_ADMIN");
  const char* const uid = std::getenv("REMORA_POD_UID");
  if (socket == nullptr || uid == nullptr) return {};
  const std::string_view text = socket;
  const size_t slash = text.rfind('/');
  if (slash == text.npos || slash == 0) return {};
  return std::string(text.substr(0, slash)) + "/last-good-" + uid;
}

// By rename, so that a sidecar that dies here leaves the one from before. Without fsync: it is for
// a container that is started again, not for a node that loses power.
void write_file(const std::string& to, const std::string& text) {
  const std::string beside = to + ".new";
  std::ofstream file(beside, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (file.good()) static_cast<void>(std::rename(beside.c_str(), to.c_str()));
}

void copy_file(const std::string& from, const std::string& to, size_t bytes_max) {
  const Result<std::string> text = config::read_file(from, bytes_max);
  const Result<std::string> there = config::read_file(to, bytes_max);
  if (!text || (there && *there == *text)) return;
  write_file(to, *text);
}

std::string policy_file() {
  const std::string dir = last_good_dir();
  return dir.empty() ? dir : dir + "/" + std::string(policy_file_name);
}

PodSources kept_in(const std::string& dir, const PodSources& sources) {
  PodSources kept = sources;
  kept.info_dir = dir;
  if (!kept.config_file.empty()) kept.config_file = dir + "/" + std::string(config::pod_config_key);
  return kept;
}

bool make_last_good_dir(const std::string& dir) {
  return !dir.empty() && (::mkdir(dir.c_str(), 0700) == 0 || errno == EEXIST);
}

void keep(const PodSources& sources) {
  const std::string dir = last_good_dir();
  if (!make_last_good_dir(dir)) return;
  const PodSources kept = kept_in(dir, sources);
  copy_file(sources.info_dir + "/" + std::string(annotations_name),
            dir + "/" + std::string(annotations_name), config::annotation_file_bytes_max);
  if (!sources.config_file.empty()) {
    copy_file(sources.config_file, kept.config_file, config::config_bytes_max);
  }
}

}  // namespace

Result<AppConfig> load_pod(const PodSources& sources) {
  Result<AppConfig> config = load_from(sources);
  if (config) keep(sources);
  return config;
}

Result<AppConfig> load_pod_or_last_good(const PodSources& sources) {
  Result<AppConfig> config = load_pod(sources);
  const std::string dir = last_good_dir();
  if (config || dir.empty()) return config;
  PodSources last_good = kept_in(dir, sources);
  Result<AppConfig> kept = load_from(last_good);
  // The kept copy was good with the policy of its own time, which may be another.
  if (!kept && last_good.policy) {
    last_good.policy.reset();
    kept = load_from(last_good);
  }
  if (!kept) return config;
  kept->refused = config.error().message;
  return kept;
}

std::optional<config::PolicyValues> kept_policy_values() {
  const Result<std::string> text = config::read_file(policy_file(), config::annotations_bytes_max);
  return text ? config::parse_policy_values(*text) : std::nullopt;
}

// As keep() does, and for the same reason.
void keep_policy_values(const config::PolicyValues& settings) {
  if (!make_last_good_dir(last_good_dir())) return;
  write_file(policy_file(), config::policy_values_text(settings));
}

}  // namespace remora
